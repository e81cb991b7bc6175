// Zip packs files into an archive that has the same bytes whenever it is made of the same files: zip OUT.zip UNIX-TIME NAME=FILE...
package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "zip:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	if len(args) < 3 {
		return errors.New("usage: zip OUT.zip UNIX-TIME NAME=FILE ...; it needs three words at least")
	}
	seconds, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	out, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z := zip.NewWriter(out)
	for _, pair := range args[2:] {
		name, file, _ := strings.Cut(pair, "=")
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		entry, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Unix(seconds, 0).UTC()})
		if err != nil {
			return err
		}
		if _, err := entry.Write(raw); err != nil {
			return err
		}
	}
	return z.Close()
}
