package main

import (
	"bytes"
	"fmt"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/licensedetect/local"
	"github.com/rs/zerolog"
)

// bill is the bill of materials of a program, CycloneDX as JSON: the modules that the
// program says are linked into it, and the licenses that are found in their sources. It
// bears neither a time nor a number of its own, so that it is the same each time.
func (b build) bill(binary string) ([]byte, error) {
	generator, err := bin.NewGenerator(binary, bin.WithLogger(zerolog.Nop()), bin.WithIncludeStdlib(true),
		bin.WithLicenseDetector(local.NewDetector(zerolog.Nop())), bin.WithVersionOverride(b.version),
		bin.WithShortPURLS(true)) // long ones name the platform, and that of this machine
	if err != nil {
		return nil, err
	}
	bom, err := generator.Generate()
	if err != nil {
		return nil, err
	}
	if bom.Components == nil || len(*bom.Components) < 2 {
		return nil, fmt.Errorf("%s lists no modules", binary)
	}
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	if err := encoder.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
