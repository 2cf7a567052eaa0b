package bus

import (
	"fmt"
	"log/slog"
	"sync/atomic"
)

// serverLog passes the embedded server's words on, a level lower: what matters
// to Cairn's users, Cairn says itself. It keeps the last error for the case
// that the server does not start.
type serverLog struct {
	*slog.Logger
	last atomic.Pointer[string]
}

func (l *serverLog) lastError() string {
	if s := l.last.Load(); s != nil {
		return *s
	}
	return "it gave no reason"
}

func (l *serverLog) keep(format string, args []any) string {
	s := fmt.Sprintf(format, args...)
	l.last.Store(&s)
	return s
}

// The methods of the server's Logger interface.

func (l *serverLog) Noticef(format string, args ...any) {
	l.Debug("nats", "notice", fmt.Sprintf(format, args...))
}

func (l *serverLog) Warnf(format string, args ...any) {
	l.Info("nats", "warning", l.keep(format, args))
}

func (l *serverLog) Errorf(format string, args ...any) {
	l.Error("nats", "error", l.keep(format, args))
}

func (l *serverLog) Fatalf(format string, args ...any) {
	l.Error("nats", "fatal", l.keep(format, args))
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
