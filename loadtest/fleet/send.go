package fleet

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"cairn/internal/mqttpub"
)

// An httpSender has one connection, as a phone has.
type httpSender struct {
	*device
	client *fasthttp.HostClient
}

func newHTTPSender(d *device) *httpSender {
	return &httpSender{d, newClient(&d.fleet.Config)}
}

func newClient(c *Config) *fasthttp.HostClient {
	address := c.Target.Host
	if c.Target.Port() == "" {
		address += map[string]string{"http": ":80", "https": ":443"}[c.Target.Scheme]
	}
	return &fasthttp.HostClient{
		Addr: address, IsTLS: c.Target.Scheme == "https", MaxConns: 1, MaxIdleConnDuration: 2 * c.Every * overlandBatch,
		ReadTimeout: c.Timeout, WriteTimeout: c.Timeout, MaxConnWaitTimeout: c.Timeout,
	}
}

func (c *Config) request(req *fasthttp.Request, path string) {
	req.SetRequestURI(strings.TrimSuffix(c.Target.String(), "/") + path)
	for _, h := range c.Header {
		req.Header.Set(h[0], h[1])
	}
}

func (s *httpSender) close() { s.client.CloseIdleConnections() }

func (s *httpSender) send(fixes []int, _ bool) error {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	want := s.write(req, fixes)
	if err := s.client.Do(req, res); err != nil {
		return fmt.Errorf("%s: %w", kindNames[s.kind], err)
	}
	if res.StatusCode() != http.StatusOK || strings.TrimSpace(string(res.Body())) != want {
		return fmt.Errorf("%s: %d %.200s", kindNames[s.kind], res.StatusCode(), res.Body())
	}
	return nil
}

// write makes the request as the program does, and returns the answer that it waits for.
func (s *httpSender) write(req *fasthttp.Request, fixes []int) (want string) {
	switch s.kind {
	case ownTracks:
		s.fleet.request(req, "/point/owntracks")
		req.Header.Set("X-Limit-U", s.fleet.User)
		req.Header.Set("X-Limit-D", strings.TrimPrefix(s.name, s.fleet.User+"/"))
		post(req, s.location(fixes[0]))
		return "[]"
	case overland:
		s.fleet.request(req, "/point/overland")
		body := []byte(`{"locations":[`)
		for i, n := range fixes {
			if i > 0 {
				body = append(body, ',')
			}
			x, y := s.place(n)
			body = fmt.Appendf(body, `{"type":"Feature","geometry":{"type":"Point","coordinates":[%g,%g]},"properties":{"timestamp":%q,"speed":1.2,"course":45,"horizontal_accuracy":10,"battery_level":0.8,"battery_state":"unplugged","motion":["walking"],"wifi":"","device_id":%q}}`,
				x, y, s.at(n).UTC().Format(time.RFC3339), s.name)
		}
		post(req, append(body, "]}"...))
		return `{"result":"ok"}`
	}
	x, y := s.place(fixes[0])
	s.fleet.request(req, fmt.Sprintf("/point/osmand?id=%s&lat=%g&lon=%g&timestamp=%d&hdop=1.5&altitude=30&speed=1.2&bearing=45",
		url.QueryEscape(s.name), y, x, s.at(fixes[0]).Unix()))
	return ""
}

func post(req *fasthttp.Request, body []byte) {
	req.Header.SetMethod(http.MethodPost)
	req.Header.SetContentType("application/json")
	req.SetBody(body)
}

// location is OwnTracks' message of a fix.
func (d *device) location(fix int) []byte {
	x, y := d.place(fix)
	return fmt.Appendf(nil, `{"_type":"location","acc":10,"alt":30,"batt":80,"cog":45,"conn":"m","lat":%g,"lon":%g,"t":"u","tid":"lt","tst":%d,"vel":4}`, y, x, d.at(fix).Unix())
}

// An mqttSender keeps its connection, and reconnects after any failure.
type mqttSender struct {
	*device
	client *mqttpub.Client
}

func (s *mqttSender) send(fixes []int, again bool) (err error) {
	if s.client == nil {
		f := s.fleet
		s.client, err = mqttpub.Dial(mqttpub.Options{Address: f.MQTTAddress, ClientID: s.name, User: f.User, Password: f.Password, Timeout: f.Timeout})
		if err != nil {
			return fmt.Errorf("MQTT: %w", err)
		}
	}
	if err = s.client.Publish("owntracks/"+s.name, s.location(fixes[0]), again); err != nil {
		s.close()
		return fmt.Errorf("MQTT: %w", err)
	}
	return nil
}

func (s *mqttSender) close() {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}
