package bench

import (
	"strconv"
	"strings"
)

// Names as they are met in an office in Taipei with colleagues elsewhere.
var (
	givenNames   = strings.Fields("Alice Ben Clara David Emma Felix Grace Henry Irene Jack Karen Leo Maria Noah Olivia Peter Quinn Rosa Sam Tina Uma Victor Wendy Xavier Yvonne Zoe Amir Björn Chloé Diego Elif Fatima Goran Hana Ivan Joana")
	familyNames  = strings.Fields("Smith Jones Chen Lin Wang Garcia Müller Rossi Novak Kim Tanaka Singh Patel Brown Miller Davis Lopez Wilson Moore Clark Young Hall King Wright Green Baker Adams Nelson")
	chineseGiven = strings.Fields("小明 怡君 志豪 雅婷 俊傑 淑芬 家豪 美玲 宗翰 佩珊 冠宇 詩涵 建宏 欣怡 承恩 宜蓁 品妍 柏翰 子晴 宥翔 思妤 明哲 惠如 志偉 郁婷 彥廷 佳穎 文彬 秀英 國華")
	chineseFirst = strings.Fields("陳 林 黃 張 李 王 吳 劉 蔡 楊 許 鄭 謝 郭 洪 曾 邱 廖 賴 周 徐 蘇 葉 莊 呂 江 何 蕭 羅 高")
	roomNames    = []string{"大廳 Lobby", "general", "工程", "design", "閒聊", "random", "support", "產品規劃", "release", "值班", "marketing", "讀書會", "infrastructure", "午餐吃什麼",
		"customers", "資料庫", "hiring", "翻譯", "security", "社團", "announcements", "法務", "finance", "實習生", "mobile", "前端", "backend", "測試", "research", "羽球"}
)

// somebody makes up a person whose handle nobody has.
func (w *writer) somebody(taken map[string]bool) (handle, name string, chinese bool) {
	if chinese = w.rng.IntN(2) == 0; chinese {
		name = w.one(chineseFirst) + w.one(chineseGiven)
		handle = name
	} else {
		given, family := w.one(givenNames), w.one(familyNames)
		name = given + " " + family
		handle = strings.ToLower(given + "." + family)
	}
	plain := handle
	for n := 2; taken[handle]; n++ {
		handle = plain + strconv.Itoa(n)
	}
	taken[handle] = true
	return handle, name, chinese
}

func (w *writer) roomName(i int) string {
	name := roomNames[i%len(roomNames)]
	if i >= len(roomNames) {
		name += " " + strconv.Itoa(i/len(roomNames)+1)
	}
	return name
}
