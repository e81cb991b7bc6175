package server

import (
	"math"
	"net"
)

// Windows has no such limit.

func mostDescriptors() int { return math.MaxInt32 }

func descriptor(net.Conn) (int, bool) { return 0, false }

func tooManyFiles(error) bool { return false }
