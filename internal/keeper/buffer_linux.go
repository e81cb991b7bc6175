package keeper

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// newBuffer asks for memory in large pages, which the kernel gives where it is set up so (transparent_hugepage is madvise or always).
func newBuffer(size int) []byte {
	const page = 2 << 20
	if size < page {
		return make([]byte, size)
	}
	whole := make([]byte, size+page) // not touched yet: it takes no memory
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(whole)))) & (page - 1)
	b := whole[skip:][:size:size]
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // without it, it is slower
	return b
}
