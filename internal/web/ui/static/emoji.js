// Emoji by name, in both languages: fetched when somebody first looks for one. What is here is what people use; anything else can be pasted.
// A line is the emoji, its English names, and its Chinese ones.

const table = `👍 +1 thumbsup yes like|讚 好 同意
👎 -1 thumbsdown no|倒讚 不好 反對
❤️ heart love|愛心 愛
😂 joy laugh tears|笑哭 大笑
🎉 tada party celebrate|慶祝 拉炮 恭喜
👀 eyes look|眼睛 看
🙏 pray thanks please|謝謝 拜託 祈禱
✅ check done ok|打勾 完成
😀 grinning smile|笑臉 開心
😃 smiley happy|大笑臉 高興
😄 smile|微笑 開心
😁 grin beam|露齒笑
😆 laughing haha|哈哈
😅 sweat_smile phew|冷汗 尷尬笑
🤣 rofl|笑倒 笑翻
😊 blush|害羞 微笑
🙂 slight_smile|淺笑
🙃 upside_down|倒臉 無奈
😉 wink|眨眼
😍 heart_eyes|愛慕 好喜歡
🥰 smiling_hearts loved|被愛
😘 kiss|親親
😎 sunglasses cool|墨鏡 酷
🤩 star_struck wow|崇拜
🥳 partying|派對
😏 smirk|得意
🤔 thinking hmm|思考 想想
🤨 raised_eyebrow|懷疑
😐 neutral|面無表情
😶 no_mouth silent|無言
🙄 eye_roll|翻白眼
😬 grimacing|尷尬
🤐 zipper_mouth|保密
😌 relieved|安心
😔 pensive sad|沮喪
😪 sleepy|想睡
😴 sleeping zzz|睡覺
🤤 drooling|流口水
😷 mask|口罩
🤒 thermometer_face ill|發燒 生病
🤕 bandage hurt|受傷
🤯 exploding_head mind_blown|腦袋爆炸 震驚
🥱 yawning bored|打哈欠
😕 confused|困惑
🙁 frowning|難過
😮 open_mouth surprised|驚訝
😲 astonished|震驚
😳 flushed|臉紅
🥺 pleading|拜託 可憐
😢 cry|哭 難過
😭 sob|大哭
😱 scream|尖叫
😤 triumph steam|生氣 哼
😠 angry|生氣
😡 rage|憤怒
🤬 cursing|罵人
😈 devil|惡魔
💀 skull dead|骷髏 笑死
💩 poop|便便
🤡 clown|小丑
👻 ghost|鬼
👽 alien|外星人
🤖 robot bot|機器人
🙈 see_no_evil|非禮勿視
🙉 hear_no_evil|非禮勿聽
🙊 speak_no_evil|非禮勿言
💯 100 hundred|一百分 滿分
💥 boom|爆炸
💫 dizzy|暈
💦 sweat_drops|水滴
💤 zzz|睡
👋 wave hello bye|揮手 你好 再見
✋ hand stop|停 手
👌 ok_hand|沒問題
🤌 pinched_fingers|捏手指
✌️ victory peace|勝利 耶
🤞 crossed_fingers|祈求好運
🤘 metal rock|搖滾
🤙 call_me|打給我
👈 point_left|左
👉 point_right|右
👆 point_up|上
👇 point_down this|下 這個
👏 clap|拍手 鼓掌
🙌 raised_hands hooray|萬歲 舉手
🙋 raising_hand me|我 舉手
🤝 handshake deal|握手 成交
💪 muscle strong|加油 肌肉
🧠 brain|腦
👤 person|人
👥 people|人們
🤷 shrug|聳肩 不知道
🤦 facepalm|扶額
🙇 bow|鞠躬 抱歉
🏃 run|跑步
🚶 walk|走路
💃 dance|跳舞
👶 baby|寶寶
👑 crown|皇冠
🎓 graduate|畢業
👓 glasses|眼鏡
🐘 elephant postgres|大象
🐶 dog|狗
🐱 cat|貓
🐭 mouse|老鼠
🐰 rabbit|兔子
🦊 fox|狐狸
🐻 bear|熊
🐼 panda|熊貓
🐨 koala|無尾熊
🐯 tiger|老虎
🦁 lion|獅子
🐮 cow|牛
🐷 pig|豬
🐸 frog|青蛙
🐵 monkey|猴子
🐔 chicken|雞
🐧 penguin|企鵝
🦆 duck|鴨子
🦉 owl|貓頭鷹
🐝 bee|蜜蜂
🐛 bug|蟲 錯誤
🦋 butterfly|蝴蝶
🐢 turtle slow|烏龜 慢
🐍 snake python|蛇
🐙 octopus|章魚
🐳 whale docker|鯨魚
🐬 dolphin|海豚
🐟 fish|魚
🦄 unicorn|獨角獸
🐉 dragon|龍
🌸 cherry_blossom|櫻花
🌹 rose|玫瑰
🌻 sunflower|向日葵
🌱 seedling|幼苗
🌲 tree|樹
🍀 clover luck|幸運草
🍁 maple_leaf|楓葉
🌍 earth world|地球 世界
🌙 moon|月亮
⭐ star|星星
🌟 glowing_star|閃亮星
✨ sparkles|閃亮 亮晶晶
⚡ zap lightning fast|閃電 快
🔥 fire hot|火 熱門
🌈 rainbow|彩虹
☀️ sun|太陽 晴天
⛅ cloudy|多雲
🌧️ rain|下雨
❄️ snow cold|雪 冷
☔ umbrella|雨傘
🌊 ocean wave_water|海浪
🍎 apple|蘋果
🍌 banana|香蕉
🍉 watermelon|西瓜
🍓 strawberry|草莓
🍑 peach|桃子
🥑 avocado|酪梨
🌶️ chili spicy|辣椒 辣
🍞 bread|麵包
🧀 cheese|起司
🍔 burger|漢堡
🍟 fries|薯條
🍕 pizza|披薩
🌮 taco|塔可
🍜 noodles ramen|拉麵 麵
🍚 rice|白飯
🍣 sushi|壽司
🥟 dumpling|餃子
🍱 bento lunch|便當 午餐
🍦 ice_cream|冰淇淋
🍰 cake|蛋糕
🎂 birthday|生日
🍫 chocolate|巧克力
🍪 cookie|餅乾
🍿 popcorn|爆米花 看戲
☕ coffee|咖啡
🍵 tea|茶
🧋 bubble_tea|珍奶 珍珠奶茶
🍺 beer|啤酒
🍻 cheers|乾杯
🍷 wine|紅酒
🥂 champagne|香檳
⚽ soccer|足球
🏀 basketball|籃球
⚾ baseball|棒球
🎾 tennis|網球
🏆 trophy win|獎盃 冠軍
🥇 gold first|金牌 第一
🎯 target bullseye|目標 正中
🎮 game|遊戲
🎲 dice|骰子
🎨 art|藝術 畫
🎵 music|音樂
🎸 guitar|吉他
🎬 movie|電影
📷 camera|相機
🚗 car|車
🚌 bus|公車
🚲 bicycle|腳踏車
✈️ airplane|飛機
🚀 rocket ship|火箭 發布
🚢 boat|船
🏠 house home|家
🏢 office|辦公室
⛺ tent|帳篷
🏝️ island vacation|島 度假
⌚ watch|手錶
📱 phone|手機
💻 laptop computer|電腦 筆電
⌨️ keyboard|鍵盤
🖨️ printer|印表機
💾 floppy save|存檔 磁片
💡 bulb idea|點子 燈泡
🔦 flashlight|手電筒
📚 books|書
📖 book|書
📝 memo note|筆記 備忘
✏️ pencil|鉛筆
📎 paperclip|迴紋針
📌 pushpin pin|圖釘
📅 calendar|日曆
📈 chart_up|上升
📉 chart_down|下降
📊 chart bars|圖表
📦 package box|包裹
📣 megaphone announce|大聲公 公告
🔔 bell|鈴鐺
🔕 no_bell mute|靜音
✉️ envelope mail|信 郵件
💰 money|錢
💳 card|信用卡
💎 gem|寶石
🔧 wrench fix|扳手 修理
🔨 hammer|鎚子
⚙️ gear|齒輪 設定
🔗 link|連結
🔒 lock|鎖
🔓 unlock|解鎖
🔑 key|鑰匙
🔍 search|搜尋
🧪 test_tube test|試管 測試
💊 pill|藥
🚿 shower|淋浴
🎁 gift|禮物
🎈 balloon|氣球
🎄 christmas|聖誕
🧧 red_envelope|紅包
🏮 lantern|燈籠
🚨 siren alert|警報
🚧 construction wip|施工 進行中
⏰ alarm|鬧鐘
⏳ hourglass wait|沙漏 等待
⌛ hourglass_done|時間到
❓ question|問號 問題
❗ exclamation|驚嘆號
⚠️ warning|警告
🚫 no_entry forbidden|禁止
❌ x cross|叉 錯
⭕ circle|圈
☑️ ballot|勾選
➕ plus|加
➖ minus|減
♻️ recycle|回收
🆗 ok_button|可以
🆕 new|新
🆘 sos help|求救
🔴 red|紅
🟠 orange|橘
🟡 yellow|黃
🟢 green|綠
🔵 blue|藍
🟣 purple|紫
⚫ black|黑
⚪ white|白
💔 broken_heart|心碎
🧡 orange_heart|橘心
💛 yellow_heart|黃心
💚 green_heart|綠心
💙 blue_heart|藍心
💜 purple_heart|紫心
🖤 black_heart|黑心
🏁 finish|終點
🚩 flag|旗
🏳️‍🌈 rainbow_flag pride|彩虹旗
🇹🇼 taiwan|台灣
🇯🇵 japan|日本
🇰🇷 korea|韓國
🇺🇸 usa|美國
🇬🇧 uk|英國
🇩🇪 germany|德國
🇫🇷 france|法國`

/** @typedef {{emoji: string, names: string[], chinese: string[]}} Emoji */

/** @type {Emoji[]} */
export const all = table.split("\n").map((line) => {
  const [first, chinese] = line.split("|")
  const [emoji, ...names] = first.split(" ")
  return { emoji, names, chinese: chinese.split(" ") }
})

/** What one calls it in the language of the page. @param {Emoji} one @param {string} locale */
export const called = (one, locale) => (locale.startsWith("zh") ? one.chinese : one.names)[0]

/** Those of this name: first the ones that begin so, then those that have it within. @param {string} wanted @param {number} [most] */
export function find(wanted, most = 400) {
  const name = wanted.trim().replaceAll(":", "").toLowerCase()
  if (!name) return all.slice(0, most)
  /** @param {Emoji} one @param {(text: string) => boolean} match */
  const some = (one, match) => one.emoji === name || one.names.some(match) || one.chinese.some(match)
  const exact = all.filter((one) => some(one, (text) => text === name))
  const first = all.filter((one) => !exact.includes(one) && some(one, (text) => text.startsWith(name)))
  const within = all.filter((one) => !exact.includes(one) && !first.includes(one) && some(one, (text) => text.includes(name)))
  return [...exact, ...first, ...within].slice(0, most)
}
