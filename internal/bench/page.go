package bench

import "context"

func (b *bench) pages(context.Context) error { return nil }
