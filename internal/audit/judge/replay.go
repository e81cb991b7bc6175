package judge

import (
	"bufio"
	"errors"
	"io"

	"howdah/internal/audit"
)

// Replayed says what a replay went through.
type Replayed struct {
	Lines   int // lines that were judged
	Records int // of them, pgAudit's
	Broken  int // lines that are no jsonlog, which were skipped
}

// Replay reads a jsonlog through today's judge, so that a rule can be tried on what has been. found is called for every verdict, in the order of the lines;
// what it returns ends the replay. A line that cannot be read is counted and skipped.
func (j *Judge) Replay(log io.Reader, found func(Verdict) error) (Replayed, error) {
	var did Replayed
	lines := bufio.NewReaderSize(log, 1<<20)
	var long []byte
	for {
		raw, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, raw...)
			continue
		}
		if len(long) > 0 {
			long = append(long, raw...)
			raw = long
		}
		if len(raw) > 0 {
			line, bad := audit.ParseLine(raw)
			if bad != nil {
				did.Broken++
			} else {
				did.Lines++
				line.Mask()
				if line.Audit != nil {
					did.Records++
				}
				for _, v := range j.Line(&line) {
					if err := found(v); err != nil {
						return did, err
					}
				}
			}
		}
		long = long[:0]
		if err == io.EOF {
			return did, nil
		}
		if err != nil {
			return did, err
		}
	}
}
