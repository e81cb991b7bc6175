package web

import (
	"howdah/internal/fault"
	"howdah/internal/hook"
)

// Outgoing webhooks of a room, for those who may connect it.

func deliveryJSON(d hook.Delivery) object {
	return object{"seq": d.Seq, "at": d.At, "tries": d.Tries, "status": d.Status, "why": d.Why, "took_ms": d.Took}
}

func (d *Door) apiOutgoing(v *visit) (any, error) {
	room, err := d.hooksOf(v)
	if err != nil {
		return nil, err
	}
	list, err := d.options.Hooks.Outgoing(v.ctx(), v.me(), room)
	out := make([]object, len(list))
	for i, h := range list {
		out[i] = object{"id": h.ID, "name": h.Name, "bot": object{"id": h.BotID, "handle": h.BotHandle, "name": h.BotName}, "url": h.URL, "hears": h.Hears, "word": h.Word,
			"by": h.CreatedBy, "created_at": h.CreatedAt, "waiting": h.Waiting, "failing_since": h.FailingSince, "why": h.Why, "on": h.OffAt == nil}
	}
	return object{"outgoing": out}, err
}

func (d *Door) apiNewOutgoing(v *visit) (any, error) {
	room, err := d.hooksOf(v)
	if err != nil {
		return nil, err
	}
	var in struct{ Name, URL, Hears, Word string }
	if err := v.body(&in); err != nil {
		return nil, err
	}
	secret, id, err := d.options.Hooks.MakeOutgoing(v.ctx(), v.me(), room, hook.OutgoingDraft{Name: in.Name, URL: in.URL, Hears: in.Hears, Word: in.Word})
	return object{"id": id, "secret": secret}, err
}

// onOutgoing runs an action on the outgoing webhook in the path.
func (d *Door) onOutgoing(v *visit, act func(room, id int64) (any, error)) (any, error) {
	room, err := d.hooksOf(v)
	if err != nil {
		return nil, err
	}
	id, err := v.number("hook")
	if err != nil {
		return nil, err
	}
	return act(room, id)
}

func (d *Door) apiSwitchOutgoing(v *visit) (any, error) {
	return d.onOutgoing(v, func(room, id int64) (any, error) {
		var in struct{ On *bool }
		if err := v.body(&in); err != nil {
			return nil, err
		}
		if in.On == nil {
			return nil, fault.New(fault.Invalid, "web.bad_json", fault.Args{"message": "on is missing"})
		}
		return nil, d.options.Hooks.Switch(v.ctx(), v.me(), room, id, *in.On)
	})
}

func (d *Door) apiDropOutgoing(v *visit) (any, error) {
	return d.onOutgoing(v, func(room, id int64) (any, error) {
		return nil, d.options.Hooks.DropOutgoing(v.ctx(), v.me(), room, id)
	})
}

func (d *Door) apiDeliveries(v *visit) (any, error) {
	return d.onOutgoing(v, func(room, id int64) (any, error) {
		list, err := d.options.Hooks.Deliveries(v.ctx(), v.me(), room, id)
		out := make([]object, len(list))
		for i, one := range list {
			out[i] = deliveryJSON(one)
		}
		return object{"deliveries": out}, err
	})
}

func (d *Door) apiDeliver(v *visit) (any, error) {
	return d.onOutgoing(v, func(room, id int64) (any, error) {
		var in struct{ Seq int64 }
		if err := v.body(&in); err != nil {
			return nil, err
		}
		one, err := d.options.Hooks.Again(v.ctx(), v.me(), room, id, in.Seq)
		return deliveryJSON(one), err
	})
}
