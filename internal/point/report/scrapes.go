package report

import (
	"encoding/json"
	"fmt"
	"io"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
)

// ScrapesSchema names the version of the file of scrapes.
const ScrapesSchema = "wfgen.dev/scrapes/v1"

// scrapeFile is the server's side of a point in the raw, beside the raw report.
type scrapeFile struct {
	Schema  string          `json:"schema"`
	Scrapes []record.Scrape `json:"scrapes"`
}

// EncodeScrapes makes the file of scrapes that lies beside a report.
func EncodeScrapes(series []record.Scrape) ([]byte, error) {
	return json.Marshal(scrapeFile{Schema: ScrapesSchema, Scrapes: series})
}

// largestScrapes is far more than scrapes of the longest point take, bytes.
const largestScrapes = 64 << 20

// witnessed adds to the measurements of a report of step bench what the server's
// /metrics said meanwhile, where the scrapes are still beside it: a point that was
// refused for what the server knew must not be accepted because it is read again.
func (o Options) witnessed(ms []measurement.Measurement, name string) []measurement.Measurement {
	if o.Beside == nil {
		return ms
	}
	beside := layout.ScrapesBeside(baseOf(name))
	f, err := o.Beside(beside)
	if err != nil {
		return ms
	}
	defer f.Close()
	var file scrapeFile
	data, err := io.ReadAll(io.LimitReader(f, largestScrapes+1))
	switch {
	case err != nil:
	case len(data) > largestScrapes:
		err = fmt.Errorf("it is larger than %d MiB", largestScrapes>>20)
	default:
		if err = json.Unmarshal(data, &file); err == nil && file.Schema != ScrapesSchema {
			err = fmt.Errorf("schema %q is not %s", file.Schema, ScrapesSchema)
		}
	}
	for i := range ms {
		if err != nil {
			ms[i].Notes = append(ms[i].Notes, fmt.Sprintf("no server witness: %s: %v", beside, err))
			continue
		}
		ms[i].Witnessed(file.Scrapes)
	}
	return ms
}
