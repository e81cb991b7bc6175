// The words after @ that call everybody in a room, or those who are here; post.go has the same.

export const callsAll = new Set(["room", "all", "everyone", "channel", "所有人", "大家", "here", "在線", "在线"])
