package testrig

import (
	"os"
	"strings"
	"sync"
)

const (
	// headBytes is how much of the beginning is kept in memory of what goes to a
	// file: more than a start says.
	headBytes = 16 << 10
	// tailBytes is how much of a process's last words a failure shows.
	tailBytes = 8 << 10
)

// An Output is what a process has written so far: all of it in memory, or in a
// file and in memory its beginning and its end.
type Output struct {
	mu   sync.Mutex
	file *os.File // nil: in memory
	text []byte
	last []byte
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		o.text = append(o.text, b...)
		return len(b), nil
	}
	o.text = append(o.text, b[:min(len(b), max(0, headBytes-len(o.text)))]...)
	o.last = append(o.last, b...)
	o.last = o.last[max(0, len(o.last)-tailBytes):]
	return o.file.Write(b)
}

// String is all of it, or the beginning of what goes to a file.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// Tail is the end of it, without the lines that come of our own polling.
func (o *Output) Tail() string {
	o.mu.Lock()
	text := o.text
	if o.file != nil {
		text = o.last
	}
	all := string(text)
	o.mu.Unlock()
	var lines []string
	for line := range strings.Lines(all) {
		if !strings.Contains(line, "path=/readyz") && !strings.Contains(line, "path=/status") {
			lines = append(lines, line)
		}
	}
	s := strings.Join(lines, "")
	return s[max(0, len(s)-tailBytes):]
}
