package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// memory keeps the points that it is sent; shifted ones if it is told to.
type memory struct {
	shift float64

	mu            sync.Mutex
	points        map[string][2]float64
	reads, writes int
	odd           []string // what no user of the tutorial would send
}

func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Header.Get("User-Agent") == "cairn-loadtest" && r.Header.Get("Accept-Encoding") != "gzip" {
		m.odd = append(m.odd, "Accept-Encoding "+r.Header.Get("Accept-Encoding"))
	}
	id, one := strings.CutPrefix(r.URL.Path, "/points/")
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/point":
		var p struct {
			Longitude, Latitude float64
			Name                string
		}
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil || p.Name == "" || max(p.Longitude, -p.Longitude) > 180 || max(p.Latitude, -p.Latitude) > 90 {
			m.odd = append(m.odd, fmt.Sprintf("%+v, %v", p, err))
		}
		m.writes++
		m.points[p.Name] = [2]float64{p.Longitude + m.shift, p.Latitude}
		w.Header().Set("Location", "/points/"+p.Name)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, "{}")
	case r.URL.Path == "/points":
		m.reads++
		fmt.Fprint(w, `{"features":[]}`)
	case one:
		p, ok := m.points[id]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"geometry": map[string]any{"coordinates": p}})
	default:
		m.odd = append(m.odd, r.Method+" "+r.URL.Path)
	}
}

// The Locust file puts the tutorial's load on, looks the points up, and fails
// where they are not what was sent.
func TestLocust(t *testing.T) {
	if _, err := exec.LookPath("locust"); err != nil {
		t.Fatalf("the Locust file is tested with Locust: apt-get install python3-locust (%v)", err)
	}
	for _, x := range []struct {
		name  string
		shift float64
		code  int
		says  string
	}{
		{"all is there", 0, 0, " looked up, 0 missing"},
		{"somewhere else", 1, 1, " looked up, "},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := &memory{shift: x.shift, points: map[string][2]float64{}}
			s := httptest.NewServer(m)
			defer s.Close()
			// Think times of the tutorial would make a long test.
			cmd := exec.Command("locust", "-f", "locustfile.py", "--headless", "--only-summary", "--host", s.URL, "--users", "10", "--spawn-rate", "10",
				"--run-time", "5s", "--think-min", "0.01", "--think-max", "0.03", "--p95", "10000")
			out, _ := cmd.CombinedOutput() // its code tells
			if code := cmd.ProcessState.ExitCode(); code != x.code || !strings.Contains(string(out), x.says) {
				t.Errorf("exit code %d\n%s", code, out)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if len(m.odd) > 0 {
				t.Error(m.odd)
			}
			// 2 to 1, give or take five standard deviations of 200 requests or more.
			all := float64(m.reads + m.writes)
			if share := float64(m.reads) / all; all < 200 || share < 0.5 || share > 0.84 {
				t.Errorf("%d reads, %d writes", m.reads, m.writes)
			}
		})
	}
}
