package cli

import (
	"context"
	"log/slog"

	"cairn/internal/datadir"
	"cairn/internal/web"

	"github.com/prometheus/client_golang/prometheus"
)

// monitorFolder has the server say when the data folder cannot be written, until ctx
// ends: /readyz, /status, a metric and the log. What is there stays, and everything continues
// when it can be written again.
func monitorFolder(ctx context.Context, server *web.Server, dir string, log *slog.Logger) {
	watch := datadir.NewMonitor(ctx, dir, func(err error) {
		if err != nil {
			log.Error("the data folder takes no more data: writes are refused until it does", "folder", dir, "error", err)
			return
		}
		log.Info("the data folder can be written again", "folder", dir)
	})
	server.Need("the data folder", watch.Problem)
	server.Registry().MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_data_folder_writable", Help: "1 while the disk under the data folder has room, for bytes and for files, and can be written."},
		func() float64 {
			if watch.Problem() != nil {
				return 0
			}
			return 1
		}))
}
