// Judges exchanges by docs/openapi.yaml. One JSON object on stdin: {document, exchanges, changes: [[[pointer, value]]]};
// an exchange is {name, meant, method, target, headers, body, answer: {status, headers, body}}, as it was on the wire. meant:
// "wrong", the document must say so of the request; "stranger", it is of somebody who may not ask. Fields of the document that
// are its own: x-several, x-access-first, x-not-with; what they say is in its description.
// One on stdout: {lint, faults, unseen, changed}: what Redocly and Ajv say of the document, what of the exchanges is not as
// it says, what of it no exchange has shown, and for each list of changes the faults of the document so changed.
import { readFileSync } from 'node:fs'
import Ajv2020 from 'ajv/dist/2020.js'
import { Document, lintOf } from './document.mjs'

// Our objects say themselves whether they are closed.
const examples = { severity: 'error', allowAdditionalProperties: true }
const RULES = {
  extends: ['recommended-strict'],
  rules: {
    'no-server-example.com': 'off', // a backend's server is its own host
    'no-unused-components': 'off', // MethodNotAllowed is no operation's
    'no-invalid-media-type-examples': examples,
    'no-invalid-schema-examples': examples,
    'no-invalid-parameter-examples': examples,
  },
}
const METHODS = ['get', 'head', 'post', 'put', 'delete', 'patch', 'options']
// What any answer of HTTP may have, and the harness' own.
const PLAIN_HEADERS = ['server', 'date', 'connection', 'content-type', 'content-length', 'x-worker']
// What is written as application/json may come so, too: see the document's description.
const AS_JSON = ['', 'application/x-www-form-urlencoded']
const escaped = (name) => name.replaceAll('~', '~0').replaceAll('/', '~1')
const named = (headers, name) => headers.filter(([key]) => key.toLowerCase() === name.toLowerCase()).map(([, value]) => value)
/** The values of a text that has several, with white space between them. */
function valuesOf(text) {
  const values = []
  for (let rest = text.trimStart(); rest !== ''; rest = rest.trimStart()) {
    const end = endOf(rest)
    values.push(JSON.parse(rest.slice(0, end)))
    rest = rest.slice(end)
    if (/^\S/.test(rest)) throw new SyntaxError('no white space between values')
  }
  return values
}

/** Where the object or array ends that the text begins with. */
function endOf(text) {
  let depth = 0
  for (const { 0: mark, index } of text.matchAll(/"(?:\\.|[^"\\])*"|[[{}\]]/g)) {
    if (mark === '{' || mark === '[') ++depth
    if ((mark === '}' || mark === ']') && --depth === 0) return index + 1
  }
  return text.length
}

const typeOf = (headers) => (named(headers, 'content-type')[0] ?? '').split(';')[0].trim().toLowerCase()

class Judge {
  constructor(path, changes) {
    this.document = new Document(path, Ajv2020, changes)
    this.answers = new Set() // pointers of responses and their media types that came
    this.operations = new Set()
  }

  judge(exchange) {
    const [path, query] = exchange.target.split('?')
    const found = this.#path(path)
    if (found === undefined) return `${path} is no path of the document`
    const item = this.document.at(found.pointer)
    const method = exchange.method.toLowerCase()
    if (item[method] === undefined) return this.#otherMethod(exchange, item, found.pointer)
    const operation = `${found.pointer}/${method}`
    this.operations.add(operation)
    const wrong = this.#request(exchange, operation, found, query)
    const taken = exchange.answer.status < 300
    if (taken && wrong !== undefined) return `it was taken, and by the document it is wrong: ${wrong}`
    if (exchange.meant === 'wrong' && wrong === undefined) return 'it was refused, and by the document it is right'
    return this.#answer(exchange, `${operation}/responses/${exchange.answer.status}`, method)
  }

  #path(path) {
    for (const template of Object.keys(this.document.root.paths)) {
      const values = path.match(new RegExp(`^${template.replace(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`))
      if (values) return { pointer: `/paths/${escaped(template)}`, values: values.groups ?? {} }
    }
    return undefined
  }

  #otherMethod(exchange, item, pointer) {
    const { status, headers } = exchange.answer
    const ours = exchange.method !== 'TRACE' // that is refused by nginx
    const methods = METHODS.filter((method) => item[method])
    if (ours && exchange.meant === 'stranger' && item['x-access-first']) {
      if (status === 405) return 'somebody who may not ask gets 405 first'
      const method = methods.find((each) => each !== 'head')
      return this.#answer(exchange, `${pointer}/${method}/responses/${status}`, exchange.method.toLowerCase())
    }
    if (status !== 405) return `a method that is not in the document is answered ${status}`
    if (ours === (typeOf(headers) === 'text/html')) return `a 405 of type ${typeOf(headers)}`
    const allowed = methods.map((method) => method.toUpperCase()).join(', ')
    if (ours && named(headers, 'allow')[0] !== allowed) return `Allow is ${named(headers, 'allow')}, the document has ${allowed}`
    return this.#answer(exchange, '/components/responses/MethodNotAllowed', exchange.method.toLowerCase())
  }

  #request(exchange, operation, { pointer, values }, query) {
    const given = { path: values, query: {}, header: {} }
    for (const [name, value] of new URLSearchParams(query ?? '')) {
      if (name in given.query) return `${name} is there twice`
      given.query[name] = value
    }
    const known = new Set()
    for (const base of [`${pointer}/parameters`, `${operation}/parameters`]) {
      for (let index = 0; index < (this.document.at(base) ?? []).length; ++index) {
        const at = this.document.follow(`${base}/${index}`)
        const parameter = this.document.at(at)
        known.add(parameter.name)
        const all = parameter.in === 'header' ? named(exchange.headers, parameter.name) : [given[parameter.in][parameter.name]]
        if (all.length > 1) return `${parameter.name} is there twice`
        if (all[0] === undefined) continue
        let value = parameter.in === 'path' ? decodeURIComponent(all[0]) : all[0]
        const { type } = this.document.at(this.document.follow(`${at}/schema`))
        if (type === 'integer' && /^\d+$/.test(value)) value = Number(value)
        const fault = this.document.judge(`${at}/schema`, value)
        if (fault !== undefined) return `${parameter.name}: ${fault}`
        this.document.seen.add(at)
      }
    }
    const strange = Object.keys(given.query).find((name) => !known.has(name))
    if (strange !== undefined) return `${strange} is no parameter`
    return this.#body(exchange, `${operation}/requestBody`)
  }

  #body({ headers, body }, pointer) {
    const wanted = this.document.at(pointer)
    if (wanted === undefined || body === null) return wanted?.required ? 'the body is missing' : undefined
    if (body.trim() === '' && !wanted.required) return undefined
    const type = AS_JSON.includes(typeOf(headers)) ? 'application/json' : typeOf(headers)
    const at = `${pointer}/content/${escaped(type)}`
    if (wanted.content[type] === undefined) return `no body of type ${type}`
    if (named(headers, 'content-encoding').some((each) => each.toLowerCase() !== 'identity')) return 'the body is encoded'
    try {
      const fault = this.#judgeText(at, body, type !== 'application/json')
      if (fault === undefined) this.document.seen.add(at)
      return fault
    } catch (error) {
      if (error instanceof SyntaxError) return error.message
      throw error
    }
  }

  #judgeText(at, body, isLines) {
    if (this.document.at(`${at}/x-several`) === undefined) return this.document.judge(`${at}/schema`, JSON.parse(body))
    let values = valuesOf(body)
    if (values.length === 0) return 'it is empty'
    if (values.length === 1 && !isLines) return this.document.judge(`${at}/schema`, values[0])
    if (values.length === 1 && Array.isArray(values[0])) [values] = values
    return this.document.judge(`${at}/x-several`, values)
  }

  #answer({ answer }, at, method) {
    if (this.document.at(at) === undefined) return `status ${answer.status} is not in the document`
    const pointer = this.document.follow(at)
    const response = this.document.at(pointer)
    for (const name of Object.keys(response.headers ?? {})) {
      const header = this.document.follow(`${pointer}/headers/${name}`)
      const values = named(answer.headers, name)
      if (values.length !== 1) {
        const { required, 'x-not-with': without } = this.document.at(header)
        if (required || (without && without !== typeOf(answer.headers))) return `${name} is there ${values.length} times`
        continue
      }
      if (this.document.at(header)['x-not-with'] === typeOf(answer.headers)) return `${name} is there`
      const fault = this.document.judge(`${header}/schema`, values[0])
      if (fault !== undefined) return `${name}: ${fault}`
    }
    const strange = answer.headers.find(([name]) => !PLAIN_HEADERS.includes(name.toLowerCase()) && !response.headers?.[name])
    if (strange !== undefined) return `the header ${strange[0]} is not in the document`
    if (method === 'head' || response.content === undefined) {
      this.answers.add(at)
      return answer.body === '' ? undefined : 'it has a body'
    }
    const type = typeOf(answer.headers)
    if (response.content[type] === undefined) return `type ${type} is not in the document`
    const body = type === 'application/json' ? JSON.parse(answer.body) : answer.body
    const fault = this.document.judge(`${pointer}/content/${escaped(type)}/schema`, body)
    if (fault === undefined) this.answers.add(`${at}/content/${escaped(type)}`)
    return fault && `status ${answer.status}: ${fault}`
  }

  unseen() {
    const wanted = new Set()
    const parts = new Set()
    for (const [path, item] of Object.entries(this.document.root.paths)) {
      for (const method of METHODS.filter((each) => item[each])) {
        const operation = `/paths/${escaped(path)}/${method}`
        wanted.add(operation)
        const all = [...(item.parameters ?? []).map((_, i) => `/paths/${escaped(path)}/parameters/${i}`),
          ...(item[method].parameters ?? []).map((_, i) => `${operation}/parameters/${i}`)]
        for (const parameter of all.map((each) => this.document.follow(each))) {
          parts.add(parameter)
          this.document.partsOf(`${parameter}/schema`, parts)
        }
        for (const [type, media] of Object.entries(item[method].requestBody?.content ?? {})) {
          const at = `${operation}/requestBody/content/${escaped(type)}`
          if (type !== 'application/json') parts.add(at)
          this.document.partsOf(`${at}/schema`, parts)
          if (media['x-several']) this.document.partsOf(`${at}/x-several`, parts)
        }
        for (const status of Object.keys(item[method].responses)) {
          this.#partsOfAnswer(`${operation}/responses/${status}`, wanted, parts)
        }
      }
    }
    this.#partsOfAnswer('/components/responses/MethodNotAllowed', wanted, parts)
    return [...[...wanted].filter((each) => !this.answers.has(each) && !this.operations.has(each)),
      ...[...parts].filter((each) => !this.document.seen.has(each))]
  }

  #partsOfAnswer(at, wanted, parts) {
    const pointer = this.document.follow(at)
    const { content, headers } = this.document.at(pointer)
    if (content === undefined) wanted.add(at)
    for (const type of Object.keys(content ?? {})) {
      wanted.add(`${at}/content/${escaped(type)}`)
      this.document.partsOf(`${pointer}/content/${escaped(type)}/schema`, parts)
    }
    for (const name of Object.keys(headers ?? {})) {
      this.document.partsOf(`${this.document.follow(`${pointer}/headers/${name}`)}/schema`, parts)
    }
  }
}

function faultOf(judge, exchange) {
  const fault = judge.judge(exchange)
  return fault && `${exchange.name}: ${exchange.method} ${exchange.target}: ${fault}`
}

function firstFault(judge, exchanges) {
  for (const exchange of exchanges) {
    const fault = faultOf(judge, exchange)
    if (fault !== undefined) return fault
  }
  return null
}

const { document, exchanges, changes } = JSON.parse(readFileSync(0, 'utf8'))
const judge = new Judge(document, [])
const lint = [...(await lintOf(document, RULES)), ...judge.document.badExamples()]
const faults = exchanges.map((each) => faultOf(judge, each)).filter((each) => each !== undefined)
// The large ones last: most faults are found without them.
const sorted = [...exchanges].sort((one, other) => (one.body?.length ?? 0) - (other.body?.length ?? 0))
const changed = changes.map((each) => firstFault(new Judge(document, each), sorted))
console.log(JSON.stringify({ lint, faults, unseen: judge.unseen(), changed }))
