// Judges what was said on sockets by docs/asyncapi.yaml. One JSON object on stdin: {document, frames, changes: [[[pointer,
// value]]]}; a frame is {name, from: "client" or "server", text, meant}. meant: "wrong", the document must say so; "event", it
// was published, under whatever name. One on stdout: {lint, faults, unseen, changed}, as openapi.mjs does.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import Ajv from 'ajv'
import { Document, lintOf } from './document.mjs'

const RULES = { extends: ['recommended-strict'] }
const EVENT = '/components/messages/event'

class Judge {
  constructor(path, changes) {
    this.document = new Document(path, Ajv, changes)
    this.messages = { client: new Set(), server: new Set() }
    for (const operation of Object.values(this.document.root.operations)) {
      const side = operation.action === 'receive' ? 'client' : 'server'
      for (const { $ref } of operation.messages) this.messages[side].add(this.document.follow($ref.slice(1)))
      for (const { $ref } of operation.reply?.messages ?? []) this.messages.server.add(this.document.follow($ref.slice(1)))
    }
    this.shown = new Set()
  }

  judge({ from, text, meant }) {
    let value
    try {
      value = JSON.parse(text)
    } catch (error) {
      return meant === 'wrong' ? undefined : error.message
    }
    if (meant === 'event') return this.document.judge(`${EVENT}/payload`, value)
    const why = []
    for (const message of this.messages[from]) {
      const type = this.document.at(`${message}/payload/properties/type`)?.const
      // A message that names the type is the one; without such a message, one that takes any type.
      if (type !== value?.type && (type !== undefined || this.#isNamed(from, value?.type))) continue
      const fault = this.document.judge(`${message}/payload`, value)
      if (fault === undefined) this.shown.add(message)
      else why.push(`${message}: ${fault}`)
      if (fault === undefined && meant === 'wrong') return `it was refused, and by the document it is right`
      if (fault === undefined) return undefined
    }
    return meant === 'wrong' ? undefined : why.join('; ') || 'no message has this type'
  }

  #isNamed(from, type) {
    return [...this.messages[from]].some((message) => this.document.at(`${message}/payload/properties/type`)?.const === type)
  }

  unseen() {
    const all = [...this.messages.client, ...this.messages.server]
    const parts = new Set()
    for (const message of all) this.document.partsOf(`${message}/payload`, parts)
    return [...all.filter((each) => !this.shown.has(each)), ...[...parts].filter((each) => !this.document.seen.has(each))]
  }
}

function faultOf(judge, frame) {
  const fault = judge.judge(frame)
  return fault && `${frame.name}: from the ${frame.from}: ${frame.text.slice(0, 300)}: ${fault}`
}

function firstFault(judge, frames) {
  for (const frame of frames) {
    const fault = faultOf(judge, frame)
    if (fault !== undefined) return fault
  }
  return null
}

/** What AsyncAPI's own JSON schema says of the document. */
function schemaFaults(root) {
  const schema = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0-without-$id.json')
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false, unicodeRegExp: false })
  const validate = ajv.compile(schema)
  if (validate(root)) return []
  return validate.errors.map((e) => `AsyncAPI's schema: ${e.instancePath} ${e.message}`)
}

const { document, frames, changes } = JSON.parse(readFileSync(0, 'utf8'))
const judge = new Judge(document, [])
const lint = [...(await lintOf(document, RULES)), ...schemaFaults(judge.document.root), ...judge.document.badExamples()]
const faults = frames.map((each) => faultOf(judge, each)).filter((each) => each !== undefined)
const changed = changes.map((each) => firstFault(new Judge(document, each), frames))
console.log(JSON.stringify({ lint, faults, unseen: judge.unseen(), changed }))
