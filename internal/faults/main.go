// Command faults reads what go test -json says of the tests of faults and prints
// one line for each fault of the design: its outcome, the longest pause in writes,
// the requests that failed, what was lost, and the longest time to rejoin. What
// happens meanwhile goes to standard error. It fails if a fault did, if one has no
// test, or if more than five were skipped. For make faults.
package main

import (
	"fmt"
	"os"
)

func main() {
	r, err := read(os.Stdin, os.Stderr)
	if err == nil {
		err = r.write(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}
