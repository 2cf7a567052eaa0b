package cli

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifyEvery is how often a start looks whether it is over.
const notifyEvery = 100 * time.Millisecond

// notifySystemd tells the service manager, where one started this process with
// Type=notify, when every role is ready, and when the stop begins: units that come
// after Cairn's start when it answers, not when its process is there.
func notifySystemd(ctx context.Context, l *listening, log *slog.Logger) {
	if os.Getenv("NOTIFY_SOCKET") != "" {
		notifyReady(ctx, l, log)
	}
	<-ctx.Done()
	sendState(daemon.SdNotifyStopping, log)
}

func notifyReady(ctx context.Context, l *listening, log *slog.Logger) {
	ticker := time.NewTicker(notifyEvery)
	defer ticker.Stop()
	for {
		if _, err := askReady(ctx, l.scheme == "https", l.Addr()); err == nil {
			sendState(daemon.SdNotifyReady, log)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func sendState(state string, log *slog.Logger) {
	// It does nothing where there is no service manager.
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("tell the service manager", "state", state, "error", err)
	}
}
