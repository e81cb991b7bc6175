// Package e2e holds tests of the whole product as people meet it: the built program, a PostgreSQL of its own, and
// people in windows of a real Chromium. Each test is a story and is named for what it promises. It needs Chromium or
// Google Chrome on the PATH.
//
// Stories that break nothing share one house (a running howdah) and live in rooms of their own; those that kill things
// have houses of their own.
package e2e
