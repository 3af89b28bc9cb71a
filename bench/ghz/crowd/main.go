// Command ghz-crowd is ghz with an identity for each call.
//
// ghz sends the same metadata with every call, so all calls would come from one buyer. This takes
// ghz's own configuration file, whose metadata-file holds an array here, and sends its entry i
// with entry i of data-file; metadata that stands in the configuration itself goes with all of
// them. Everything else, the report included, is ghz.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/bojand/ghz/printer"
	"github.com/bojand/ghz/runner"
	"google.golang.org/grpc/metadata"
)

// wanted is what the command line says.
type wanted struct {
	config string
	total  uint
	output string
	format string
	host   string
}

func identities(path string, shared map[string]string) ([]metadata.MD, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries []map[string]string
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("%s must hold an array of objects: %w", path, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s holds no identity", path)
	}
	found := make([]metadata.MD, len(entries))
	for i, entry := range entries {
		found[i] = metadata.Join(metadata.New(shared), metadata.New(entry))
	}
	return found, nil
}

// callsWanted is the configuration's own total; 0 where it has none (ghz would say 200).
func callsWanted(path string) (uint, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var config struct{ Total uint }
	if err := json.Unmarshal(text, &config); err != nil {
		return 0, fmt.Errorf("%s must be JSON: %w", path, err)
	}
	return config.Total, nil
}

func run(wanted wanted) error {
	var config runner.Config
	if err := runner.LoadConfig(wanted.config, &config); err != nil {
		return err
	}
	found, err := identities(config.MetadataPath, config.Metadata)
	if err != nil {
		return err
	}
	if config.N, err = callsWanted(wanted.config); err != nil {
		return err
	}
	if wanted.total != 0 {
		config.N = wanted.total
	}
	if config.N == 0 {
		config.N = uint(len(found))
	}
	if wanted.host != "" {
		config.Host = wanted.host
	}
	report, err := runner.Run(config.Call, config.Host,
		runner.WithConfig(&config),
		runner.WithMetadataProvider(func(call *runner.CallData) (*metadata.MD, error) {
			return &found[call.RequestNumber%int64(len(found))], nil
		}))
	if err != nil {
		return err
	}
	out := os.Stdout
	if wanted.output != "" {
		if out, err = os.Create(wanted.output); err != nil {
			return err
		}
		defer out.Close()
	}
	return (&printer.ReportPrinter{Report: report, Out: out}).Print(wanted.format)
}

func main() {
	var wanted wanted
	flag.StringVar(&wanted.config, "config", "bench/ghz/purchase.json", "ghz configuration file")
	// Under ghz's own names.
	for _, name := range []string{"n", "total"} {
		flag.UintVar(&wanted.total, name, 0,
			"calls; 0 means the configuration's total, or one for each identity")
	}
	for _, name := range []string{"o", "output"} {
		flag.StringVar(&wanted.output, name, "", "file for the report; empty: standard output")
	}
	for _, name := range []string{"O", "format"} {
		flag.StringVar(&wanted.format, name, "summary",
			"summary, csv, json, pretty, html, influx-summary")
	}
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: ghz-crowd [flags] [host:port]")
		flag.PrintDefaults()
	}
	flag.Parse()
	wanted.host = flag.Arg(0)
	if err := run(wanted); err != nil {
		fmt.Fprintln(os.Stderr, "ghz-crowd:", err)
		os.Exit(1)
	}
}
