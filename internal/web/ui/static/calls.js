// The words after @ that call everybody in a room, or those who are here; account.go has the same.

export const callsRoom = new Set(["room", "all", "everyone", "channel", "所有人", "大家"])
export const callsHere = new Set(["here", "在線", "在线"])
