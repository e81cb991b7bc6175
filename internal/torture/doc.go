// Package torture holds the fault tests: they start the real program on a real cluster that waits for the disk, break
// what can break (processes, the disk, limits of the system) and check afterwards that every promise was kept. It has
// no code of its own; `make torture` runs the long form, the normal suite a short one.
//
// The tests want Linux (they look into /proc), and root for those that mount a small disk or ask as whom programs run.
package torture
