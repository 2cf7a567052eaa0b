package e2e

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/internal/testrig"
)

const (
	// bodyBytes is many times what may be in memory of one upload.
	bodyBytes = 64 << 20
	// uploadTimeout is for a body of many megabytes.
	uploadTimeout = 5 * time.Minute
	// maxPeak bounds what the process, all roles in it, may ever have resident.
	maxPeak = 512 << 20
)

// A long body goes through in flat memory, packed or not.
func TestUploadInFlatMemory(t *testing.T) {
	s := serve(t, testrig.PreparedFolder(t))
	for _, coding := range []string{"", "gzip"} {
		t.Run("coding "+coding, func(t *testing.T) {
			body, rows := generated(coding)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Base+"/point", body)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/x-ndjson")
			if coding != "" {
				request.Header.Set("Content-Encoding", coding)
			}
			response, err := (&http.Client{Timeout: uploadTimeout}).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			a, err := testrig.ReadAll(response)
			if err != nil || a.Status != http.StatusAccepted {
				t.Fatal(a.Status, string(a.Body), err)
			}
			var got testrig.Accepted
			testrig.Parse(t, a.Body, &got)
			if want := <-rows; got.Accepted != want || got.Rejected != 0 {
				t.Errorf("%+v of %d rows", got, want)
			}
		})
	}
	s.Settled() // the projector's memory counts, too
	peak := peakBytes(t, s.PID())
	t.Logf("the peak is %d MiB", peak>>20)
	if peak > maxPeak {
		t.Errorf("the peak is %d MiB, more than %d", peak>>20, maxPeak>>20)
	}
}

// generated is a body that is made while it is sent, and how many rows it had.
func generated(coding string) (io.ReadCloser, <-chan int64) {
	reader, writer := io.Pipe()
	rows := make(chan int64, 1)
	go func() {
		buffered := bufio.NewWriterSize(writer, 64<<10)
		var out io.Writer = buffered
		packed := gzip.NewWriter(buffered)
		if coding == "gzip" {
			out = packed
		}
		// A row of about a kilobyte, so that the rows are soon in the database.
		note := strings.Repeat("a note that says little. ", 40)
		sent, n := 0, int64(0)
		var err error
		for sent < bodyBytes && err == nil {
			var wrote int
			wrote, err = fmt.Fprintf(out, `{"longitude":%d.5,"latitude":%d.25,"name":"row %d","properties":{"note":%q}}`+"\n", n%180, n%90, n, note)
			sent += wrote
			n++
		}
		if coding == "gzip" && err == nil {
			err = packed.Close()
		}
		if err == nil {
			err = buffered.Flush()
		}
		writer.CloseWithError(err) // nil is the end
		rows <- n
	}()
	return reader, rows
}
