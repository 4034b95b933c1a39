// render: prints a conversation by the TEMPLATE of a Modelfile, with what Ollama gives it. Usage: render MODELFILE < JSON
// {"system": "...", "messages": [{"role": "...", "content": "..."}]}; SYSTEM of the Modelfile stands in for no system.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role, Content string
}

type conversation struct {
	System   *string
	Messages []message
}

// The text between """ after a name at the start of a line, "" when there is none.
func block(text, name string) string {
	_, rest, found := strings.Cut("\n"+text, "\n"+name+` """`)
	if !found {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"""`)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	check(err)
	var talk conversation
	check(json.NewDecoder(os.Stdin).Decode(&talk))
	system := block(string(text), "SYSTEM")
	if talk.System != nil {
		system = *talk.System
		talk.Messages = append([]message{{"system", system}}, talk.Messages...)
	}
	parsed, err := template.New("").Parse(block(string(text), "TEMPLATE"))
	check(err)
	check(parsed.Execute(os.Stdout, map[string]any{"System": system, "Messages": talk.Messages}))
}
