package native

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"wfgen.dev/internal/sweep"
)

// mostWaiting is how many requests more than expected may be under way before the load
// ends: the server has fallen behind, and what follows would only fill its queue.
const mostWaiting = 512

// arrive sends requests at the asked rate until the time is over, whatever becomes of those
// before them, and waits for the answers of all. It stops when the server has fallen far
// behind: the report then shows a queue that grows. alone is how long a request takes
// that has the server for itself.
func (l *load) arrive(ctx context.Context, alone time.Duration) {
	random := rand.New(rand.NewPCG(uint64(l.Seed), 0x0a))
	begin := time.Now()
	total := time.Duration(l.MaxSeconds * float64(time.Second))
	most := int64(mostWaiting + 20*l.Rate*alone.Seconds())
	finished := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { l.tell(begin, finished) })
	under, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var flight sync.WaitGroup
	due := time.Duration(0)
	late, latest := time.Duration(0), time.Duration(0)
	n := 0
	for {
		gap := 1.0
		if l.Arrivals == sweep.Poisson {
			gap = random.ExpFloat64()
		}
		due += time.Duration(gap / l.Rate * float64(time.Second))
		if total > 0 && due > total || l.MaxRequests > 0 && n >= l.MaxRequests {
			break
		}
		sleep(ctx, time.Until(begin.Add(due)))
		if ctx.Err() != nil {
			break
		}
		if waiting := l.started.Load() - l.answered.Load() - l.failed.Load(); waiting > most {
			fmt.Fprintf(l.Log, "native driver: %d requests are under way: the server has fallen behind, no more are sent\n", waiting)
			break
		}
		behind := time.Since(begin) - due
		late += behind
		latest = max(latest, behind)
		n++
		l.started.Add(1)
		stream, seed := n-1, random.Uint64()
		flight.Go(func() { l.request(under, stream, rand.New(rand.NewPCG(uint64(l.Seed), seed))) })
	}
	// What has not been answered long after the last arrival waits in a queue.
	patience := time.AfterFunc(max(30*time.Second, 10*alone), giveUp)
	flight.Wait()
	patience.Stop()
	close(finished)
	watch.Wait()
	if n > 0 {
		fmt.Fprintf(l.Log, "native driver: requests were sent %.1f ms late in the mean, %.1f ms at most\n", ms(late)/float64(n), ms(latest))
	}
}

func ms(d time.Duration) float64 { return math.Round(10*d.Seconds()*1000) / 10 }

// tell tells the progress of an open loop.
func (l *load) tell(begin time.Time, finished <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-finished:
			return
		case now := <-tick.C:
			switch {
			case l.Progress == nil:
			case l.MaxSeconds > 0:
				l.Progress(min(now.Sub(begin).Seconds(), l.MaxSeconds), l.MaxSeconds)
			default:
				l.Progress(float64(l.answered.Load()), float64(l.MaxRequests))
			}
		}
	}
}
