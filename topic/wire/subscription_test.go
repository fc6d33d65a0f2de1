package wire_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"fanout/topic/wire"
)

func partitions(topic string, ids ...int) (list []wire.Partition) {
	for _, id := range ids {
		list = append(list, wire.Partition{Topic: topic, ID: id})
	}
	return list
}

func TestSubscription(t *testing.T) {
	s := wire.Subscription{Topics: []string{"b", "a"}, UserData: []byte("{}"), Owned: append(partitions("b", 2, 0), partitions("a", 1)...)}
	b := s.Append(nil)
	got, err := wire.ParseSubscription(b)
	want := wire.Subscription{Topics: []string{"a", "b"}, UserData: []byte("{}"), Owned: append(partitions("a", 1), partitions("b", 0, 2)...)}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	// A static member's restart goes without a rebalance only where its bytes are the same.
	s.Topics, s.Owned = []string{"a", "b"}, append(partitions("a", 1), partitions("b", 0, 2)...)
	if !bytes.Equal(s.Append(nil), b) {
		t.Error("the same subscription in another order has other bytes")
	}
}

// What other clients send: less than version 1 has, or more.
func TestForeignSubscriptions(t *testing.T) {
	head := func(version uint16) []byte {
		b := binary.BigEndian.AppendUint16(nil, version)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = append(binary.BigEndian.AppendUint16(b, 1), 't')
		return binary.BigEndian.AppendUint32(b, 0xffffffff) // no user data
	}
	owned := func(b []byte) []byte {
		b = binary.BigEndian.AppendUint32(b, 1)
		b = append(binary.BigEndian.AppendUint16(b, 1), 't')
		b = binary.BigEndian.AppendUint32(b, 1)
		return binary.BigEndian.AppendUint32(b, 3)
	}
	for name, c := range map[string]struct {
		b    []byte
		want []wire.Partition
		bad  bool
	}{
		"version 0":                            {head(0), nil, false},
		"version 1 of kafka-go, without owned": {head(1), nil, false},
		"version 1":                            {owned(head(1)), partitions("t", 3), false},
		"version 3, with generation and rack":  {append(owned(head(3)), 0, 0, 0, 7, 0xff, 0xff), partitions("t", 3), false},
		"nothing":                              {nil, nil, true},
		"cut in the topics":                    {head(0)[:7], nil, true},
		"cut in owned":                         {owned(head(1))[:20], nil, true},
	} {
		got, err := wire.ParseSubscription(c.b)
		if (err != nil) != c.bad || !c.bad && (!reflect.DeepEqual(got.Topics, []string{"t"}) || !reflect.DeepEqual(got.Owned, c.want)) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestAssignment(t *testing.T) {
	a := wire.Assignment{Partitions: append(partitions("b", 0), partitions("a", 2, 1)...), UserData: []byte(`{"staying":2}`)}
	got, err := wire.ParseAssignment(a.Append(nil))
	want := wire.Assignment{Partitions: append(partitions("a", 1, 2), partitions("b", 0)...), UserData: a.UserData}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if got, err := wire.ParseAssignment(nil); err != nil || got.Partitions != nil {
		t.Errorf("no bytes are %+v, %v", got, err)
	}
	if _, err := wire.ParseAssignment([]byte{0, 0, 0, 0}); err == nil {
		t.Error("an assignment that is cut is taken")
	}
}

func FuzzSubscription(f *testing.F) {
	f.Add((&wire.Subscription{Topics: []string{"a"}, UserData: []byte("{}"), Owned: partitions("a", 0, 1)}).Append(nil))
	f.Add([]byte{0, 3, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := wire.ParseSubscription(b)
		if err != nil {
			return
		}
		again, err := wire.ParseSubscription(s.Append(nil))
		if err != nil {
			t.Fatalf("%+v is written as what cannot be read: %v", s, err)
		}
		if len(again.Topics) != len(s.Topics) || len(again.Owned) != len(s.Owned) || !bytes.Equal(again.UserData, s.UserData) {
			t.Fatalf("%+v comes back as %+v", s, again)
		}
	})
}

func FuzzAssignment(f *testing.F) {
	f.Add((&wire.Assignment{Partitions: partitions("a", 0, 1), UserData: []byte("{}")}).Append(nil))
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := wire.ParseAssignment(b)
		if err != nil {
			return
		}
		again, err := wire.ParseAssignment(a.Append(nil))
		if err != nil || len(again.Partitions) != len(a.Partitions) || !bytes.Equal(again.UserData, a.UserData) {
			t.Fatalf("%+v comes back as %+v, %v", a, again, err)
		}
	})
}
