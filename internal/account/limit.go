package account

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"howdah/internal/fault"
)

// limits slows down guessing: by address and by account. It lives in memory, so a restart forgets it; argon2id alone
// then still bounds what one process can try.
type limits struct {
	mu      sync.Mutex
	buckets map[string]*bucket
	swept   time.Time
}

type bucket struct {
	limiter *rate.Limiter
	used    time.Time
}

func newLimits() *limits { return &limits{buckets: map[string]*bucket{}} }

// Ten tries at once, then one every six seconds, for an address; the same for an account, whoever tries: so a password
// that is guessed at from everywhere gets 14,400 tries a day. Who is signed in already is not touched by it.
const (
	triesAtOnce = 10
	triesEvery  = 6 * time.Second
)

func (l *limits) take(keys ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.swept) > time.Minute {
		for key, b := range l.buckets {
			if now.Sub(b.used) > triesAtOnce*triesEvery {
				delete(l.buckets, key)
			}
		}
		l.swept = now
	}
	for _, key := range keys {
		b := l.buckets[key]
		if b == nil {
			b = &bucket{limiter: rate.NewLimiter(rate.Every(triesEvery), triesAtOnce)}
			l.buckets[key] = b
		}
		b.used = now
		if r := b.limiter.ReserveN(now, 1); r.DelayFrom(now) > 0 {
			wait := r.DelayFrom(now).Round(time.Second) + time.Second
			r.CancelAt(now)
			return fault.New(fault.RateLimited, "account.too_often", fault.Args{"seconds": int(wait / time.Second)})
		}
	}
	return nil
}

func (l *limits) forgive(keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		delete(l.buckets, key)
	}
}

// addressKey groups an IPv6 customer's whole /64, which is one person's to choose from.
func addressKey(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return "address " + address
	}
	addr = addr.Unmap()
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return "address " + prefix.String()
		}
	}
	return "address " + addr.String()
}
