package admin

import "fmt"

// codeSample verifies a signature in one language. Its file is tested.
type codeSample struct{ Name, File, Text string }

func codeSamples() ([]codeSample, error) {
	list := []codeSample{
		{Name: "Node", File: "verify.js"},
		{Name: "Python", File: "verify.py"},
		{Name: "Go", File: "go/verify.go"},
		{Name: "Java", File: "Verify.java"},
		{Name: "PHP", File: "verify.php"},
		{Name: "Ruby", File: "verify.rb"},
		{Name: "C#", File: "Verify.cs"},
	}
	for i := range list {
		text, err := web.ReadFile("web/verify/" + list[i].File)
		if err != nil {
			return nil, fmt.Errorf("sample: %w", err)
		}
		list[i].Text = string(text)
	}
	return list, nil
}
