package keeper

import "sync"

// Buffers for whole segments are kept for the next one, and are asked for in large pages where the system has them: a process that lives for
// one segment would spend a third of its time in getting 16 MB in pages of 4 KiB.
var buffers struct {
	sync.Mutex
	free [][]byte
}

const keptBuffers = 8

// getBuffer gives memory with any content.
func getBuffer(size int) []byte {
	buffers.Lock()
	for i, b := range buffers.free {
		if cap(b) >= size {
			buffers.free = append(buffers.free[:i], buffers.free[i+1:]...)
			buffers.Unlock()
			return b[:size]
		}
	}
	buffers.Unlock()
	return newBuffer(size)
}

// putBuffer takes memory back; from then on nobody else may use it.
func putBuffer(b []byte) {
	if cap(b) < 1<<20 {
		return
	}
	buffers.Lock()
	defer buffers.Unlock()
	if len(buffers.free) < keptBuffers {
		buffers.free = append(buffers.free, b)
	}
}
