package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/internal/testkit"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// startSmall starts a server whose store is on a disk of its own, with a stream.
func startSmall(t *testing.T) (s *server.Server, dir string, stream jetstream.Stream) {
	t.Helper()
	dir, here := testkit.SmallDisk(t, "size=256m")
	if !here {
		return nil, "", nil
	}
	s, err := server.Start(server.Config{Listen: "127.0.0.1:0", StoreDir: filepath.Join(dir, "store"), MaxStore: 1 << 30, Log: testkit.Log(t),
		Passwords: map[string]string{bus.UserProjector: "a", bus.UserIngest: "b", bus.UserQuery: "c", bus.UserInspect: "d"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	stream, err = bus.CreateStream(t.Context(), testkit.JetStream(t, s, bus.UserProjector), 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir, stream
}

// blocks are the files of the stream's messages.
func blocks(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "store/jetstream/CAIRN/streams", bus.Stream, "msgs/*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A message that could not be written leaves no trace: the sequence that it would have had
// goes to the next, and the stream has no hole, which would stop its reader.
func TestNoHoleAfterFullDisk(t *testing.T) {
	s, dir, stream := startSmall(t)
	if s == nil {
		return
	}
	c := bus.NewCollector(testkit.JetStream(t, s, bus.UserIngest), s.Refusal, prometheus.NewRegistry(), testkit.Log(t))
	t.Cleanup(c.Close)
	large := strings.Repeat("x", 400<<10) + "\n"
	filler := filepath.Join(dir, "filler")
	for round := range 3 {
		// A block is full, so the next message would be the first of another.
		for n := len(blocks(t, dir)); n == len(blocks(t, dir)); {
			if _, err := testkit.Publish(t, c, large); err != nil {
				t.Fatal(err)
			}
		}
		for range 8<<20/(400<<10) - 1 - round%2 {
			if _, err := testkit.Publish(t, c, large); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Fill(t, filler, 512)
		for {
			if _, err := testkit.Publish(t, c, large); err != nil {
				break
			}
		}
		testkit.Eventually(t, 10*time.Second, "writes are refused", func() bool { return s.Refusal() != nil })
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 60*time.Second, "a write is taken again", func() bool {
			_, err := testkit.Publish(t, c, "small\n")
			return err == nil
		})
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st := info.State; st.NumDeleted != 0 || st.Msgs != st.LastSeq {
			t.Errorf("round %d: %d messages up to sequence %d, %d deleted", round, st.Msgs, st.LastSeq, st.NumDeleted)
		}
	}
}

// A stream is cut off where a file of the store begins, which needs no room; within a file
// only while there is some. The server would hang on a full disk.
func TestCutOnFullDisk(t *testing.T) {
	tests := []struct {
		name        string
		messages    int
		bytes       int // of each
		full        bool
		below, want uint64 // sequences
	}{
		{"room, in one file", 2_000, 10, false, 1_000, 1_000},
		{"full, in one file", 2_000, 10, true, 1_000, 0},
		{"room, files before", 100, 400 << 10, false, 70, 61},
		{"full, files before", 100, 400 << 10, true, 70, 61},
		{"full, where a file begins", 100, 400 << 10, true, 61, 61},
		{"full, before the second file", 100, 400 << 10, true, 20, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, dir, stream := startSmall(t)
			if s == nil {
				return
			}
			js := testkit.JetStream(t, s, bus.UserIngest)
			for range tt.messages {
				if _, err := js.Publish(t.Context(), bus.Subject, make([]byte, tt.bytes)); err != nil {
					t.Fatal(err)
				}
			}
			if tt.full {
				testkit.Fill(t, filepath.Join(dir, "filler"), 512)
			}
			projector := testkit.JetStream(t, s, bus.UserProjector)
			where, err := bus.AskCut(t.Context(), projector.Conn(), tt.below)
			if err != nil {
				t.Fatal(err)
			}
			at := where.At(1)
			if at != tt.want {
				t.Fatalf("cut at %d, want %d: %+v", at, tt.want, where)
			}
			if at == 0 {
				return
			}
			if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(at)); err != nil {
				t.Fatal(err)
			}
			info, err := stream.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if st := info.State; st.FirstSeq != at || st.NumDeleted != 0 || st.LastSeq != uint64(tt.messages) {
				t.Errorf("the stream is %+v", st)
			}
			// What was removed made room.
			if _, err := js.Publish(t.Context(), bus.Subject, make([]byte, tt.bytes)); err != nil {
				t.Error(err)
			}
		})
	}
}
