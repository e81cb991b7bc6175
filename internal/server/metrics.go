package server

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveMetrics opens the side door for Prometheus. That its port is taken is no reason not to chat: it is logged.
func (s *Server) serveMetrics(ctx context.Context) *http.Server {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.options.MetricsListen)
	if err != nil {
		s.options.Log.Warn("no metrics", "error", err)
		return nil
	}
	side := &http.Server{Handler: s.metrics(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = side.Serve(listener) }() // ends with Shutdown
	s.options.Log.Info("metrics", "address", listener.Addr().String())
	return side
}

// metrics are the figures of this server, in Prometheus' text format.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() int64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	stats, rooms := &s.door.Stats, s.rooms.Load()
	counter("howdah_http_requests_total", "HTTP requests.", stats.Requests.Load)
	counter("howdah_failures_total", "Requests that failed by our own fault; the log names each.", stats.Failures.Load)
	counter("howdah_posts_total", "Posts received.", stats.Posts.Load)
	counter("howdah_deliveries_total", "Events put into the queues of live sessions.", stats.Deliveries.Load)
	counter("howdah_dropped_sessions_total", "Live sessions dropped because they could not keep up.", stats.Dropped.Load)
	counter("howdah_post_commits_total", "Transactions that stored posts; posts per commit is the group size.", rooms.Commits)
	gauge("howdah_live_sessions", "Live sessions now.", func() float64 { n, _, _ := rooms.Listeners(); return float64(n) })
	gauge("howdah_people_here", "People with a live session now.", func() float64 { _, n, _ := rooms.Listeners(); return float64(n) })
	gauge("howdah_room_loops", "Rooms that somebody follows now.", func() float64 { _, _, n := rooms.Listeners(); return float64(n) })
	gauge("howdah_database_up", "1 while the database answers.", func() float64 {
		if rooms.Trouble() != nil {
			return 0
		}
		return 1
	})
	registry.MustRegister(alertFigures{s.watch})
	if s.options.Cluster != nil {
		counter("howdah_watch_lines_total", "Lines of PostgreSQL's log that were judged.", s.watch.watched.lines.Load)
		counter("howdah_watch_incidents_total", "Incidents that the watch has begun.", s.watch.watched.incidents.Load)
		gauge("howdah_watch_lag_seconds", "How old the newest judged line is while others wait; 0 when all are judged.", func() float64 { return float64(s.watch.watched.behind.Load()) / 1000 })
	}
	if s.options.Cluster != nil {
		gauge("howdah_watch_tables_lag_lines", "Lines of the audit trail's files that its tables do not have.", func() float64 { n, _ := s.watch.tables.behind(); return float64(n) })
		gauge("howdah_watch_tables_lag_seconds", "For how long the tables of the audit trail have not had all that its files have; 0 when they have.", func() float64 { _, age := s.watch.tables.behind(); return age.Seconds() })
	}
	if s.options.Keeping != nil {
		s.keepingGauges(gauge)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", s.door.ServeHTTP)
	return mux
}
