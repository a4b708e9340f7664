// Other libraries beside our verifier: reads what token_cases prints, and asks jose about each token. We may refuse what
// it accepts, for one of the reasons below; what it refuses we never accept, nor what libjwt refuses. Prints TAP.
import { createInterface } from 'node:readline'
import { importSPKI, jwtVerify } from 'jose'

// How our refusals begin, and why they are stricter than jose's.
const STRICTER = {
  'longer than 8192 bytes': 'nobody unknown makes us read more',
  'the header is not base64url': 'RFC 7515, 2: no padding, no other letters; one token has one spelling',
  'the payload is not base64url': 'the same',
  'the signature is not base64url': 'the same',
  'the header is not a JSON object without duplicates':
    'RFC 7515, 4: names are unique; jose takes the last, replaces what is not UTF-8, and reads any depth',
  'a header member occurs twice': 'the same, further inside',
  '"typ" is not a string': 'RFC 7515, 4.1.9',
  '"kid" is not': 'RFC 7515, 4.1.4: a string; ours is compared with names of the configuration, and logged',
  '"crit" is not supported': 'RFC 7515, 4.1.11: jose knows b64, we know nothing that is critical',
  'the payload is not JSON, or too deep': 'jose replaces what is not UTF-8, skips a byte order mark, and reads any depth',
  'a claim occurs twice': 'RFC 7519, 4: names are unique; jose takes the last',
  'a NUL in the payload': 'values go into variables of nginx and into Postgres',
  'a number out of range in the payload': 'for jose 1e999 is infinite, and an exp never comes',
  '"exp" is more than ten years ahead': 'that is milliseconds',
  '"iat" is in the future': 'jose looks at it only where an age is limited',
  '"sub" is': 'the user is a string or an integer, of at most 200 bytes',
  '"sub" has a control character': 'it is logged and shown',
  '"rooms" is not an array of strings': 'our own claim',
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const terms = JSON.parse((await lines.next()).value)
const keys = {}
for (const [name, text] of Object.entries(terms.keys)) {
  keys[name] = name.startsWith('HS') ? new TextEncoder().encode(text) : await importSPKI(text, name)
}
const currentDate = new Date(terms.now * 1000)
const options = (rules) => ({
  algorithms: Object.keys(keys),
  currentDate,
  issuer: rules.issuer || undefined,
  audience: rules.audience.length ? rules.audience : undefined,
  clockTolerance: rules.leeway,
  maxTokenAge: rules.maxAge || undefined,
  requiredClaims: rules.required,
})
const rules = Object.fromEntries(Object.entries(terms.rules).map(([name, each]) => [name, options(each)]))

async function claimsByJose(one) {
  const token = Buffer.from(one.token, 'base64url').toString('latin1')
  try {
    return (await jwtVerify(token, (header) => keys[header.alg], rules[one.rules])).payload
  } catch (error) {
    one.jose = error.message
    return null
  }
}

const isNothing = (value) => value === undefined || value === null || value === ''

// Integers that a double does not hold are none of jose's.
function readsTheSame(one, claims) {
  const user = isNothing(claims.sub) ? claims.id : claims.sub
  const sameUser = (typeof user === 'number' && !Number.isSafeInteger(user)) || String(user ?? '') === one.user
  return sameUser && (claims.exp === undefined ? 0 : Math.floor(claims.exp * 1000)) === one.ends
}

const seen = Object.fromEntries(Object.keys(STRICTER).map((reason) => [reason, 0]))
const moreLenient = []
const readOtherwise = []
const unexplained = []
let accepted = 0
let refused = 0

async function judge(line) {
  const one = JSON.parse(line)
  const claims = await claimsByJose(one)
  if (one.refused === undefined) {
    accepted++
    if (!claims || one.libjwt === false) moreLenient.push(one)
    else if (!readsTheSame(one, claims)) readOtherwise.push(one)
    return
  }
  refused++
  if (!claims) return
  const reason = Object.keys(STRICTER).find((each) => one.refused.startsWith(each))
  if (reason) seen[reason]++
  else unexplained.push(one)
}

// In groups, for jose has each signature verified in another thread.
let group = []
for (let next = await lines.next(); ; next = await lines.next()) {
  if (!next.done) group.push(judge(next.value))
  if (!next.done && group.length < 64) continue
  await Promise.all(group)
  group = []
  if (next.done) break
}

let count = 0
function tap(wrong, name) {
  console.log(`${wrong.length ? 'not ok' : 'ok'} ${++count} - ${name}`)
  for (const one of wrong.slice(0, 10)) console.log(`# ${JSON.stringify(one)}`)
  if (wrong.length) process.exitCode = 1
}
const unseen = Object.keys(STRICTER).filter((reason) => !seen[reason])
tap(moreLenient, `of ${accepted} tokens that we accept (seed ${terms.seed}), jose and libjwt refuse none`)
tap(readOtherwise, 'and jose reads the same user and the same end in each')
tap(unexplained, `of ${refused} that we refuse, jose accepts only what is known`)
tap(accepted && refused ? unseen : ['no tokens'], 'and something of all that is known')
for (const [reason, times] of Object.entries(seen)) console.log(`# ${times}: ${reason} (${STRICTER[reason]})`)
if (process.exitCode) console.log(`# the keys: ${JSON.stringify(terms.keys)}`)
console.log(`1..${count}`)
