package page

import (
	"strings"
	"testing"
	"testing/fstest"
)

func folder(names ...string) fstest.MapFS {
	out := fstest.MapFS{
		mapIndex:  {Data: []byte(`<meta name="cairn" content="{}"><div id="map"></div>`)},
		bareIndex: {Data: []byte(`built without`)},
	}
	for _, name := range names {
		out[name] = &fstest.MapFile{Data: []byte("x")}
	}
	return out
}

// A binary without the map's libraries says so, and shows no empty map.
func TestIndex(t *testing.T) {
	for name, tt := range map[string]struct {
		files fstest.MapFS
		whole bool
		text  string
	}{
		"with the libraries":    {folder(mapLibrary), true, `id="map"`},
		"without the libraries": {folder("lib/README"), false, "built without"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := newPage(tt.files, "")
			if err != nil {
				t.Fatal(err)
			}
			if got := string(p.files["/"].plain); p.Whole != tt.whole || !strings.Contains(got, tt.text) {
				t.Errorf("whole: %v, %s", p.Whole, got)
			}
		})
	}
}

// A style of the operator's is told to the page, and may be loaded from where it is.
func TestStyle(t *testing.T) {
	p, err := newPage(folder(mapLibrary), `https://maps.example.org/style.json?a="b"`)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(p.files["/"].plain); !strings.Contains(got, `content="{&#34;style&#34;:&#34;https://maps.example.org/style.json?a=\&#34;b\&#34;&#34;}"`) {
		t.Error(got)
	}
	if !strings.Contains(p.policy, "connect-src 'self' https: https://maps.example.org") {
		t.Error(p.policy)
	}
	for _, style := range []string{"file:///etc/passwd", "style.json", "https://", "javascript:alert(1)"} {
		if _, err := New(style); err == nil {
			t.Errorf("%s is taken", style)
		}
	}
}

// Scripts, styles and workers are the page's own files, and none in its text.
func TestPolicyIsStrict(t *testing.T) {
	p, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	for directive := range strings.SplitSeq(p.policy, "; ") {
		name, sources, _ := strings.Cut(directive, " ")
		switch want := "'self'"; name {
		case "default-src", "base-uri", "form-action":
			want = "'none'"
			fallthrough
		case "script-src", "style-src", "worker-src", "connect-src", "font-src", "frame-ancestors":
			if sources != want {
				t.Errorf("%s: %s, want %s", name, sources, want)
			}
		}
	}
}
