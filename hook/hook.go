// Package hook sends fences' events to receivers by HTTP: a hook and its parser (here),
// and the sender of one message ([Sender]), which signs it according to Standard Webhooks
// and refuses internal addresses. It depends on neither database nor queue: the projector
// decides which messages to send and to retry.
package hook

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"cairn/event"
	"cairn/fence"
)

const (
	// MaxHooks bounds how many there are: each has a sender of its own.
	MaxHooks = 32
	// MaxBytes bounds one as it is sent, MaxURL its address and MaxFences those it names.
	MaxBytes, MaxURL, MaxFences = 32 << 10, 2000, 100
	// The key of a secret has 24 to 64 bytes (Standard Webhooks, "Signature scheme").
	minSecret, maxSecret = 24, 64

	secretPrefix = "whsec_"
)

// A Hook is a receiver, and of what it is told.
type Hook struct {
	ID     string   `json:"id"`
	URL    string   `json:"url"`
	Fences []string `json:"fences,omitempty"` // none: all
	Events []string `json:"events,omitempty"` // none: all
	// Secret is what it is signed with; "" where the one that is there stays.
	Secret string `json:"secret,omitempty"`
}

// Parse reads a hook:
//
//	{"url": "https://example.org/hook", "fences": ["home"], "events": ["enter"], "secret": "whsec_…"}
//
// What it refuses is a [*event.FieldError].
func Parse(id string, body []byte) (*Hook, error) {
	if err := fence.CheckID(id); err != nil {
		return nil, &event.FieldError{Pointer: "/id", Reason: err.Error()}
	}
	if len(body) > MaxBytes {
		return nil, &event.FieldError{Reason: fmt.Sprintf("a hook has at most %d bytes", MaxBytes)}
	}
	h := &Hook{ID: id}
	var r event.Reader
	r.Start(slices.Clone(body))
	err := r.Members(func(name []byte) (err error) {
		switch string(name) {
		case `"id"`:
			var same string
			if same, err = r.Text(); err == nil && same != id {
				err = r.Fail("it must be %q, as in the path", id)
			}
		case `"url"`:
			if h.URL, err = r.Text(); err == nil {
				err = wrong(&r, checkURL(h.URL))
			}
		case `"fences"`:
			h.Fences, err = texts(&r, MaxFences, fence.CheckID)
		case `"events"`:
			h.Events, err = texts(&r, 2, func(s string) error {
				if s != fence.Enter && s != fence.Leave {
					return fmt.Errorf("events are %q and %q", fence.Enter, fence.Leave)
				}
				return nil
			})
		case `"secret"`:
			if h.Secret, err = r.Text(); err == nil {
				_, err = key(h.Secret)
				err = wrong(&r, err)
			}
		default:
			err = r.FailNext("a hook has url, fences, events and secret, and nothing else")
		}
		return err
	})
	if err == nil && h.URL == "" {
		err = &event.FieldError{Pointer: "/url", Reason: "a hook needs a url: where to send to"}
	}
	if err != nil {
		return nil, event.AsFieldError(err)
	}
	if _, err := r.ReadToken(); err != io.EOF {
		return nil, &event.FieldError{Reason: "something follows the hook"}
	}
	return h, nil
}

// wrong makes what is wrong with the value that was read last.
func wrong(r *event.Reader, err error) error {
	if err != nil {
		return r.Fail("%s", err.Error())
	}
	return nil
}

func texts(r *event.Reader, most int, check func(string) error) (out []string, err error) {
	if r.PeekKind() != '[' {
		return nil, r.FailNext("it must be a list of text")
	}
	if _, err = r.ReadToken(); err != nil {
		return nil, err
	}
	for r.PeekKind() == '"' {
		s, err := r.Text()
		if err == nil {
			err = wrong(r, check(s))
		}
		if err == nil && len(out) == most {
			err = r.Fail("there are more than %d", most)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if r.PeekKind() != ']' {
		return nil, r.FailNext("it must be a list of text")
	}
	_, err = r.ReadToken()
	return out, err
}

const (
	group = "[0-9A-Fa-f]{1,4}"
	// ipv6 is an address of RFC 4291, 2.2, without the form that ends like one of IPv4.
	ipv6 = `(G:){7}G|(G:){1,7}:|(G:){6}:G|(G:){5}(:G){1,2}|(G:){4}(:G){1,3}|(G:){3}(:G){1,4}|(G:){2}(:G){1,5}|(G:)(:G){1,6}|:((:G){1,7}|:)`
)

// isURL is the rule of RFC 3986, without user and fragment. The API's definition has the
// same, so that who reads it knows what is taken.
var isURL = regexp.MustCompile(`^https?://([A-Za-z0-9._-]+|\[(` + strings.ReplaceAll(ipv6, "G", group) + `)\])(:[0-9]{1,5})?([/?]([!$&-;=?@A-Z_a-z~]|%[0-9A-Fa-f]{2})*)?$`)

func checkURL(text string) error {
	if len(text) > MaxURL {
		return fmt.Errorf("a url has at most %d bytes", MaxURL)
	}
	if isURL.MatchString(text) {
		return nil
	}
	// What is wrong with those that come near.
	switch u, err := url.Parse(text); {
	case err == nil && u.User != nil:
		return fmt.Errorf("a url has no user or password: the signature says who sends")
	case err == nil && u.Fragment != "":
		return fmt.Errorf("what follows # is never sent: leave it out")
	case strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fmt.Errorf("a url is ASCII without spaces: percent-encode the rest, and write the host as DNS has it (xn--…)")
	}
	return fmt.Errorf("it must be like https://example.org/hook")
}

// key is the key of a secret.
func key(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	// Go's decoder skips line ends; other programs' do not.
	if !ok || err != nil || strings.ContainsAny(text, "\r\n") || len(raw) < minSecret || len(raw) > maxSecret {
		return nil, fmt.Errorf("a secret is %s and %d to %d bytes in base64 behind it; leave it out, and one is made", secretPrefix, minSecret, maxSecret)
	}
	return raw, nil
}

// NewSecret makes one.
func NewSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(raw)
}

// Wants tells whether the hook is about an event.
func (h *Hook) Wants(e *fence.Event) bool {
	return (len(h.Fences) == 0 || slices.Contains(h.Fences, e.Fence)) && (len(h.Events) == 0 || slices.Contains(h.Events, e.Kind()))
}

// Definition is the hook without its secret, as it is kept and shown.
func (h *Hook) Definition() []byte {
	shown := *h
	shown.Secret = ""
	return shown.JSON()
}

// JSON is the hook with its secret.
func (h *Hook) JSON() []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // of a URL's &
	_ = e.Encode(h)        // text only
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
