package admin

import "fmt"

// codeSample verifies a signature in one language. Its file is tested.
type codeSample struct{ Name, Text string }

func codeSamples() ([]codeSample, error) {
	list := []codeSample{{Name: "Node"}, {Name: "Python"}, {Name: "Go"}, {Name: "Java"}}
	for i, name := range []string{"verify.js", "verify.py", "go/verify.go", "Verify.java"} {
		text, err := web.ReadFile("web/verify/" + name)
		if err != nil {
			return nil, fmt.Errorf("sample: %w", err)
		}
		list[i].Text = string(text)
	}
	return list, nil
}
