// Renders a Helm chart where no helm is at hand: the engine of Go's own text/template with sprig, as Helm has it, and the few functions
// that Helm adds. Usage: render-chart CHART RELEASE NAMESPACE < values.json. It knows neither dependencies nor lookups.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	chart, release, namespace := os.Args[1], os.Args[2], os.Args[3]
	values, about := map[string]interface{}{}, map[string]interface{}{}
	must(json.NewDecoder(os.Stdin).Decode(&values))
	text, err := os.ReadFile(filepath.Join(chart, "Chart.yaml"))
	must(err)
	must(yaml.Unmarshal(text, &about))
	// Helm spells the chart's fields with capitals.
	fields := map[string]interface{}{}
	for key, value := range about {
		fields[strings.ToUpper(key[:1])+key[1:]] = value
	}
	all := template.New("chart").Option("missingkey=zero")
	functions := sprig.TxtFuncMap()
	functions["include"] = func(name string, data interface{}) (string, error) {
		var out strings.Builder
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	functions["toYaml"] = func(value interface{}) (string, error) {
		out, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(out), "\n"), err
	}
	all.Funcs(functions)
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	must(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(err)
		_, err = all.New(filepath.Base(file)).Parse(string(text))
		must(err)
	}
	context := map[string]interface{}{
		"Values": values, "Chart": fields,
		"Release": map[string]interface{}{"Name": release, "Namespace": namespace, "Service": "Helm"},
	}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "_") {
			continue
		}
		var out strings.Builder
		must(all.ExecuteTemplate(&out, filepath.Base(file), context))
		if strings.HasSuffix(file, ".yaml") {
			fmt.Printf("---\n%s\n", out.String())
		}
	}
}
