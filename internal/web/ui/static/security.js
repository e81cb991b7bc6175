// The page of how somebody signs in: a page of the house, with passkeys.

import "./house.js"
import "./passkey.js"
