// Command ghz-crowd is ghz with an identity for each call.
//
// ghz sends the same metadata with every call, so all calls would come from one buyer. This takes
// ghz's own configuration file, whose metadata-file holds an array here, and sends its entry i
// with entry i of data-file. Everything else, the report included, is ghz.
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

func identities(path string) ([]metadata.MD, error) {
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
		found[i] = metadata.New(entry)
	}
	return found, nil
}

func run(configPath string, total uint, output string, format string) error {
	var config runner.Config
	if err := runner.LoadConfig(configPath, &config); err != nil {
		return err
	}
	found, err := identities(config.MetadataPath)
	if err != nil {
		return err
	}
	if total == 0 {
		total = uint(len(found))
	}
	config.N = total
	report, err := runner.Run(config.Call, config.Host,
		runner.WithConfig(&config),
		runner.WithMetadataProvider(func(call *runner.CallData) (*metadata.MD, error) {
			return &found[call.RequestNumber%int64(len(found))], nil
		}))
	if err != nil {
		return err
	}
	out := os.Stdout
	if output != "" {
		if out, err = os.Create(output); err != nil {
			return err
		}
		defer out.Close()
	}
	return (&printer.ReportPrinter{Report: report, Out: out}).Print(format)
}

func main() {
	config := flag.String("config", "bench/ghz/purchase.json", "ghz configuration file")
	total := flag.Uint("total", 0, "calls; 0 means one for each identity")
	output := flag.String("output", "", "file for the report; empty means standard output")
	format := flag.String("format", "summary", "summary, csv, json, pretty, html, influx-summary")
	flag.Parse()
	if err := run(*config, *total, *output, *format); err != nil {
		fmt.Fprintln(os.Stderr, "ghz-crowd:", err)
		os.Exit(1)
	}
}
