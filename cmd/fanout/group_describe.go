package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/topic"
	"fanout/topic/wire"
)

// groupMember is a member of a consumer group, for people and programs.
type groupMember struct {
	Group      string   `json:"group"`
	State      string   `json:"state"`
	Member     string   `json:"member"`
	Instance   string   `json:"instance,omitempty"`
	Host       string   `json:"host"`
	Partitions []string `json:"partitions"`
}

// groupDescribe shows who reads which partitions.
type groupDescribe struct {
	*settings
	*output
}

func (c *groupDescribe) command() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "describe",
		Short: "Show each instance and the partitions that it reads",
		Long: `describe asks Kafka for the members of the consumer groups, and for the
partitions that each of them was given. An instance is shown by its
kafka.instance_id, or by the id that Kafka gave it.`,
		Example: "  fanout group describe",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load(cmd)
			if err != nil {
				return err
			}
			return withAdmin(cmd.Context(), &cfg, c.describe)
		},
	})
}

func (c *groupDescribe) describe(ctx context.Context, cluster *topic.Cluster) error {
	members := []groupMember{}
	for _, id := range groupIDs(cluster.Config()) {
		d, err := cluster.Group(id).Describe(ctx)
		if err != nil {
			return cluster.Explain(err)
		}
		for _, m := range d.Members {
			assigned, err := wire.ParseAssignment(m.Assignment)
			if err != nil {
				return fmt.Errorf("group %s: assignment of %s: %w", id, m.ID, err)
			}
			row := groupMember{Group: id, State: d.State, Member: m.ID, Instance: m.InstanceID, Host: strings.TrimPrefix(m.Host, "/"), Partitions: []string{}}
			slices.SortFunc(assigned.Partitions, topic.Partition.Compare)
			for _, p := range assigned.Partitions {
				row.Partitions = append(row.Partitions, p.String())
			}
			members = append(members, row)
		}
	}
	if c.asJSON() {
		return c.json(members)
	}
	if len(members) == 0 {
		fmt.Fprintln(c.stdout, "no instance is a member of the groups")
		return nil
	}
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "GROUP", Least: 12},
		{Name: "STATE", Leave: 2},
		{Name: "INSTANCE", Least: 12},
		{Name: "HOST", Leave: 1},
		{Name: "PARTITIONS", Wrap: true, Least: 24},
	}}
	for i := range members {
		m := &members[i]
		t.Rows = append(t.Rows, []string{m.Group, m.State, cmp.Or(m.Instance, m.Member), m.Host, orDash(strings.Join(m.Partitions, " "))})
	}
	return c.table(t)
}
