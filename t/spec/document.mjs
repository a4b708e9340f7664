// A document of docs/: what Redocly says of it, its schemas as Ajv takes them, and which parts of them values have shown.
import { readFileSync } from 'node:fs'
import { createConfig, lint, parseYaml } from '@redocly/openapi-core'

// The fields that hold one schema, several, or several by name; in the dialects of OpenAPI 3.1 and AsyncAPI 3.0.
const ONE = ['items', 'additionalProperties', 'not', 'propertyNames']
const MANY = ['allOf', 'oneOf', 'anyOf']
const escaped = (name) => name.replaceAll('~', '~0').replaceAll('/', '~1')

/** What is wrong with the file, one line each. */
export async function lintOf(path, rules) {
  const problems = await lint({ ref: path, config: await createConfig(rules) })
  return problems
    .filter((problem) => !problem.ignored)
    .map(({ ruleId, message, location }) => `${ruleId}: ${message.replace(/\s+/g, ' ')} at ${location[0]?.pointer ?? ''}`)
}

export class Document {
  /** changes: [[pointer, value]] made to what the file says; null: the part is taken away. */
  constructor(path, Ajv, changes = []) {
    this.root = parseYaml(readFileSync(path, 'utf8'))
    this.found = new Map() // by pointer
    this.validators = new Map()
    this.notes = changes.length === 0 // what a false document shows is of no interest
    for (const [pointer, value] of changes) this.#change(pointer, value)
    this.found.clear()
    this.ajv = new Ajv({ strict: true, allowUnionTypes: true, strictTypes: false, strictRequired: false, allErrors: false })
    this.ajv.addFormat('int64', { type: 'number', validate: Number.isInteger })
    this.ajv.addVocabulary(['x-own', ...Object.keys(this.root)]) // Ajv takes the whole document for a schema that holds others
    this.ajv.addSchema(this.root, 'document')
    this.seen = new Set()
  }

  at(pointer) {
    if (!this.found.has(pointer)) this.found.set(pointer, this.#find(pointer))
    return this.found.get(pointer)
  }

  #find(pointer) {
    return pointer
      .split('/')
      .slice(1)
      .reduce((node, name) => node?.[name.replaceAll('~1', '/').replaceAll('~0', '~')], this.root)
  }

  #change(pointer, value) {
    const cut = pointer.lastIndexOf('/')
    const [parent, name] = [this.at(pointer.slice(0, cut)), pointer.slice(cut + 1).replaceAll('~1', '/').replaceAll('~0', '~')]
    if (parent === undefined || (value === null && parent[name] === undefined)) throw new Error(`${pointer} is not there`)
    if (value === null) delete parent[name]
    else parent[name] = value
  }

  /** The pointer of what a reference leads to, or the pointer itself. */
  follow(pointer) {
    let node = this.at(pointer)
    while (typeof node?.$ref === 'string' && Object.keys(node).every((key) => key === '$ref' || key === 'description')) {
      pointer = node.$ref.slice(1)
      node = this.at(pointer)
    }
    if (node === undefined) throw new Error(`nothing at ${pointer}`)
    return pointer
  }

  /** Why the value is not what the schema says; nothing: it is. What of the schema it shows is remembered. */
  judge(pointer, value) {
    const validate = this.#validator(pointer)
    if (!validate(value)) {
      return validate.errors.map((e) => `${e.instancePath || 'it'} ${e.message} ${JSON.stringify(e.params)}`).join('; ')
    }
    if (this.notes) this.#note(pointer, value)
    return undefined
  }

  #validator(pointer) {
    if (this.validators.has(pointer)) return this.validators.get(pointer)
    const fragment = pointer.split('/').map(encodeURIComponent).join('/')
    const validate = this.ajv.getSchema(`document#${fragment}`)
    if (validate === undefined) throw new Error(`no schema at ${pointer}`)
    this.validators.set(pointer, validate)
    return validate
  }

  #note(pointer, value) {
    pointer = this.follow(pointer)
    const schema = this.at(pointer)
    if (typeof schema !== 'object') return
    if (Array.isArray(schema.type)) this.seen.add(`${pointer}/type/${value === null ? 'null' : 'other'}`)
    schema.enum?.forEach((each, index) => each === value && this.seen.add(`${pointer}/enum/${index}`))
    schema.allOf?.forEach((_, index) => this.#note(`${pointer}/allOf/${index}`, value))
    for (const kind of ['oneOf', 'anyOf']) {
      schema[kind]?.forEach((_, index) => {
        if (!this.#validator(`${pointer}/${kind}/${index}`)(value)) return
        this.seen.add(`${pointer}/${kind}/${index}`)
        this.#note(`${pointer}/${kind}/${index}`, value)
      })
    }
    if (Array.isArray(value)) {
      if (schema.items) value.forEach((each) => this.#note(`${pointer}/items`, each))
      return
    }
    if (typeof value !== 'object' || value === null) return
    for (const [name, each] of Object.entries(value)) {
      const under = `${pointer}/properties/${escaped(name)}`
      if (schema.properties?.[name] !== undefined) {
        this.seen.add(under)
        this.#note(under, each)
      }
    }
  }

  /** Of the schema at the pointer, and of what it refers to: each part that a value can show. */
  partsOf(pointer, found = new Set(), been = new Set()) {
    pointer = this.follow(pointer)
    const schema = this.at(pointer)
    if (typeof schema !== 'object' || been.has(pointer)) return found
    been.add(pointer)
    if (Array.isArray(schema.type)) ['null', 'other'].forEach((kind) => found.add(`${pointer}/type/${kind}`))
    schema.enum?.forEach((_, index) => found.add(`${pointer}/enum/${index}`))
    for (const kind of MANY) {
      schema[kind]?.forEach((_, index) => {
        if (kind !== 'allOf') found.add(`${pointer}/${kind}/${index}`)
        this.partsOf(`${pointer}/${kind}/${index}`, found, been)
      })
    }
    for (const kind of ONE) {
      if (kind !== 'not' && typeof schema[kind] === 'object') this.partsOf(`${pointer}/${kind}`, found, been)
    }
    for (const name of Object.keys(schema.properties ?? {})) {
      found.add(`${pointer}/properties/${escaped(name)}`)
      this.partsOf(`${pointer}/properties/${escaped(name)}`, found, been)
    }
    return found
  }

  /** Whether each example beside a schema, at any depth of the document, is one. [faults] */
  badExamples() {
    const faults = []
    const walk = (node, pointer) => {
      if (typeof node !== 'object' || node === null) return
      const schema = ['schema', 'payload'].filter((name) => node[name] !== undefined).map((name) => `${pointer}/${name}`)[0]
      if (schema !== undefined) {
        const examples = node.example !== undefined ? [node.example] : Object.values(node.examples ?? {})
        for (const example of examples) {
          const value = example?.value ?? example?.payload ?? example
          const fault = this.judge(schema, value)
          if (fault !== undefined) faults.push(`example ${JSON.stringify(value)} at ${pointer}: ${fault}`)
        }
      }
      for (const [name, each] of Object.entries(node)) walk(each, `${pointer}/${escaped(name)}`)
    }
    walk(this.root, '')
    this.seen.clear()
    return faults
  }
}
