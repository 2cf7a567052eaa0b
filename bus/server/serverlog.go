package server

import (
	"fmt"
	"log/slog"
	"sync/atomic"
)

// serverLog passes the embedded server's words on, a level lower: what matters
// to Cairn's users, Cairn says itself. It keeps errors for the case that the
// server does not start.
type serverLog struct {
	*slog.Logger
	last, fatal atomic.Pointer[string]
}

// reason is why the server did not start.
func (l *serverLog) reason() string {
	for _, said := range []*string{l.fatal.Load(), l.last.Load()} {
		if said != nil {
			return *said
		}
	}
	return "it gave no reason"
}

// The methods of the server's Logger interface.

func (l *serverLog) Noticef(format string, args ...any) {
	l.Debug("nats", "notice", fmt.Sprintf(format, args...))
}

func (l *serverLog) Warnf(format string, args ...any) {
	l.Info("nats", "warning", fmt.Sprintf(format, args...))
}

func (l *serverLog) Errorf(format string, args ...any) {
	said := fmt.Sprintf(format, args...)
	l.last.Store(&said)
	l.Error("nats", "error", said)
}

// Fatalf comes from a start that has failed; the server leaves it to its logger
// to end the process, which this one does not.
func (l *serverLog) Fatalf(format string, args ...any) {
	said := fmt.Sprintf(format, args...)
	l.fatal.Store(&said)
	l.Error("nats", "fatal", said)
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
