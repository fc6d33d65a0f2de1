package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// auditLimit is how long one `fanout audit` may take.
const auditLimit = time.Minute

// auditAnswer is what `fanout audit -o json` says.
type auditAnswer struct {
	States map[string]int `json:"states"`
	List   []struct {
		ID    string `json:"id"`
		State string `json:"state"`
		Why   string `json:"why"`
	} `json:"list"`
}

// audit asks `fanout audit` what became of each source topic, and compares its answer with the judge's: where nothing is
// lost it names nothing, and where something is, it says so (docs/contract.md#audit-needs). Where topics or offsets were
// replaced it cannot know, and is only noted.
func (w *world) audit(ctx context.Context, r *result) error {
	missing, unjudged, sum := 0, 0, 0
	for _, topic := range sources() {
		answer, code, err := w.askAudit(ctx, topic)
		if err != nil {
			return err
		}
		for _, n := range answer.States {
			sum += n
		}
		unjudged += answer.States["configuration changed"] + answer.States["cannot be judged"]
		missing += answer.States["missing"]
		if (code == 1) != (answer.States["missing"] > 0) {
			w.problems.addf("audit of %s ends with status %d, and names %d as missing", topic, code, answer.States["missing"])
		}
		for _, d := range answer.List {
			if r.lost == 0 && !w.s.recreates && !w.excused[d.ID] {
				w.problems.addf("audit says that %s is %s (%s), and it is not", d.ID, d.State, d.Why)
			}
		}
	}
	if r.lost > 0 && missing == 0 {
		w.problems.addf("audit names nothing as missing, and %d deliveries are lost", r.lost)
	}
	note := fmt.Sprintf("audit: %d missing of %d", missing, sum)
	if unjudged > 0 {
		note += fmt.Sprintf(", %d not judged", unjudged)
	}
	r.notes = append(r.notes, note)
	return nil
}

func (w *world) askAudit(ctx context.Context, topic string) (*auditAnswer, int, error) {
	ctx, cancel := context.WithTimeout(ctx, auditLimit)
	defer cancel()
	out, code, err := w.fanout(ctx, "audit", topic, "-o", "json")
	if err != nil {
		return nil, 0, err
	}
	var answer auditAnswer
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, 0, fmt.Errorf("audit %s: status %d: %w: %.300s", topic, code, err, out)
	}
	return &answer, code, nil
}

// fanout runs one of fanout's commands with the first instance's configuration, and says with what status it ended.
func (w *world) fanout(ctx context.Context, args ...string) ([]byte, int, error) {
	dir := w.fans[0].Dir()
	cmd := exec.CommandContext(ctx, w.program, append(args, "--config", filepath.Join(dir, "fanout.yaml"))...)
	cmd.Dir = w.lab.Dir() // not the instance's: what is left there is looked at
	cmd.Env = append(cmd.Environ(), "HOME="+w.lab.Dir())
	out, err := cmd.Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Exited() {
		return out, ended.ExitCode(), nil
	}
	return out, 0, err
}
