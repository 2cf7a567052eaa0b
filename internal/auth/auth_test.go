package auth

import (
	"strings"
	"testing"
	"time"
)

func TestAreas(t *testing.T) {
	for _, text := range []string{"", "1,2,3", "1,2,3,4,5", "a,2,3,4", "181,0,0,0", "0,-91,0,0", "0,10,0,5", "NaN,0,0,0", "0,0,Inf,0"} {
		if a, err := ParseArea(text); err == nil {
			t.Errorf("%q is read as %v", text, a)
		}
	}
	plain, err := ParseArea("-10,40, 10,50")
	if err != nil {
		t.Fatal(err)
	}
	across, err := ParseArea("170,-10,-170,10")
	if err != nil {
		t.Fatal(err)
	}
	if !across.Has(-175, 0) || across.Has(0, 0) || !plain.Has(-10, 50) || plain.Has(0, 51) {
		t.Error("places")
	}
}

// Over any time, a rate lets through what it says and one second's worth more.
func TestRate(t *testing.T) {
	i := &Identity{Rate: 5}
	now := time.Now()
	taken := 0
	for range 10 * 100 {
		if i.take(now) {
			taken++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if taken < 50 || taken > 55 {
		t.Errorf("%d requests of 5 a second in 10 s", taken)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"phone-1": true, "A_b": true, "": false, "a.b": false, "a b": false, "-a": false, "*": false, "a>": false, strings.Repeat("a", 65): false} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What a bucket has, whatever it is, is a key with scopes or none at all.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"sha256":"` + strings.Repeat("0a", 32) + `","scopes":"read,write","area":[1,2,3,4],"rate":3,"created":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"sha256":"","scopes":"read"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, i, err := decode("x", raw)
		if err == nil && (i.Scopes&^(Open|Read|Write|Edit|Admin) != 0 || i.Scopes == Open) {
			t.Fatalf("%+v", i)
		}
	})
}

func FuzzArea(f *testing.F) {
	f.Add("1,2,3,4", 1.0, 2.0)
	f.Fuzz(func(t *testing.T, text string, longitude, latitude float64) {
		a, err := ParseArea(text)
		if err != nil {
			return
		}
		if !a.Has(a[0], a[1]) || !a.Has(a[2], a[3]) {
			t.Fatalf("%v does not have its own corners", a)
		}
		if a.Has(longitude, latitude) && !(latitude >= a[1] && latitude <= a[3]) {
			t.Fatalf("%v has %v %v", a, longitude, latitude)
		}
	})
}
