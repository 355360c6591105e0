package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/measurement"
)

// scraping reads /metrics before the load, at a steady pace during it, and once
// after it.
type scraping struct {
	client *llm.Client
	model  string
	cancel context.CancelFunc
	wait   sync.WaitGroup

	series []record.Scrape
	err    error // why the first scrape failed; a server without /metrics is not asked again
}

// pace is the time between scrapes: some twenty looks at a point, which is enough for
// blocks and too little to disturb it. Where several points share a process, a look
// must also fall between each two of them, and guidellm pauses a second there.
func pace(o driver.Options) time.Duration {
	slowest := 2 * time.Second
	if len(o.Levels) > 0 {
		slowest = 300 * time.Millisecond
	}
	return max(250*time.Millisecond, min(slowest, time.Duration(o.MaxSeconds/20*float64(time.Second))))
}

func startScraping(ctx context.Context, client *llm.Client, model string, pace time.Duration) *scraping {
	s := &scraping{client: client, model: model}
	if s.err = s.once(ctx); s.err != nil {
		s.cancel = func() {}
		return s
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.wait.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = s.once(ctx) // a scrape that is missing in the middle costs nothing
			}
		}
	})
	return s
}

func (s *scraping) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	scrape, err := s.client.Scrape(ctx, s.model)
	if err != nil {
		return llm.Brief(err)
	}
	s.series = append(s.series, scrape)
	return nil
}

// stop takes the last scrape, a moment after the load.
func (s *scraping) stop(ctx context.Context) ([]record.Scrape, error) {
	s.cancel()
	s.wait.Wait()
	if s.err != nil {
		return nil, s.err
	}
	time.Sleep(measurement.Settle)
	if err := s.once(context.WithoutCancel(ctx)); err != nil {
		return s.series, errors.New("/metrics could not be read after the load, so the counts cannot be compared: " + err.Error())
	}
	return s.series, nil
}
