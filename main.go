// Howdah is a chat room on PostgreSQL that keeps that PostgreSQL safe and watches over it.
package main

import (
	"os"
	_ "time/tzdata" // people's time zones, also where the system has none (Windows, small containers)

	"howdah/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
