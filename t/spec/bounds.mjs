// What lies at the bounds of a document's schemas. One JSON object on stdin: {document, bases: [{name, at, values}]}; at: the
// pointer of a schema, values: what it takes, and each field that it has is in one of them. One on stdout: {root, probes}:
// the document, and [{name, place, value, valid}]: for each bound, at whatever depth, the last value on its good side and the
// next one, as Ajv judges them. So other bounds in the document are other values here.
import { readFileSync } from 'node:fs'
import Ajv from 'ajv'
import Ajv2020 from 'ajv/dist/2020.js'
import { Document } from './document.mjs'

const OF_EACH_TYPE = [null, true, 1, 1.5, 'x', [], {}]
const LETTERS = [...Array(128).keys()].map((code) => String.fromCharCode(code)).concat('é', '🙂')
const ATOM = /(\[(?:\\.|[^\]\\])+\]|\\.|[^\\[\](){}*+?|^$])(\{(\d+)(?:,(\d+))?\}|\+)?/uy

/** Of a pattern without groups: [{good: letters, bad: letters, min, max}]. Nothing: it has some. */
function atomsOf(pattern) {
  const text = pattern.replace(/^\^(\(\?![^)]*\))?/, '').replace(/\$$/, '')
  const atoms = []
  ATOM.lastIndex = 0
  while (ATOM.lastIndex < text.length) {
    const found = ATOM.exec(text)
    if (found === null) return undefined
    const [, one, count, least, most] = found
    const letter = new RegExp(`^${one}$`, 'u')
    const min = count === undefined ? 1 : Number(least ?? 1)
    const max = count === undefined ? 1 : count === '+' ? Infinity : Number(most ?? least)
    atoms.push({ good: LETTERS.filter((each) => letter.test(each)), bad: LETTERS.filter((each) => !letter.test(each)), min, max })
  }
  return atoms
}

const plain = ({ good }) => good.find((each) => /[A-Za-z]/.test(each)) ?? good[0]

function* ofPattern(pattern) {
  const atoms = atomsOf(pattern)
  if (atoms === undefined) return
  const text = (index, part) =>
    atoms.map((atom, i) => (i === index ? part : plain(atom).repeat(Math.max(atom.min, 1)))).join('')
  for (const [index, atom] of atoms.entries()) {
    for (const count of [atom.min - 1, atom.min, atom.max, atom.max + 1]) {
      if (count >= 0 && count < Infinity) yield text(index, plain(atom).repeat(count))
    }
    const size = Math.min(atom.max, 64)
    for (let at = 0; at < atom.good.length; at += size) yield text(index, atom.good.slice(at, at + size).join(''))
    // In the middle, where nothing else than the letter is wrong.
    const around = atom.max >= 3 ? plain(atom) : ''
    for (const letter of atom.bad) yield text(index, around + letter + around)
  }
}

function* ofLength({ minLength, maxLength, pattern }) {
  const letter = pattern === undefined ? 'x' : plain(atomsOf(pattern)[0])
  for (const length of [minLength - 1, minLength, maxLength, maxLength + 1]) {
    if (length >= 0) yield letter.repeat(length)
  }
}

function* ofNumber({ type, minimum, maximum }) {
  const whole = type === 'integer'
  if (minimum !== undefined) yield* [minimum, whole ? minimum - 1 : minimum * 0.999]
  if (maximum !== undefined) yield* [maximum, whole ? maximum + 1 : maximum + 0.001]
}

class Bounds {
  constructor(path) {
    // Each of the two documents has its own dialect of JSON Schema.
    this.document = new Document(path, path.includes('asyncapi') ? Ajv : Ajv2020)
    this.fields = new Set()
  }

  of({ name, at, values }) {
    const probes = new Map()
    for (const base of values) {
      const fault = this.document.judge(at, base)
      if (fault !== undefined) throw new Error(`${name}: ${JSON.stringify(base).slice(0, 200)}: ${fault}`)
      for (const [place, value] of this.#around(at, base, '')) {
        const text = JSON.stringify(value)
        if (!probes.has(text)) probes.set(text, { name, place, value, valid: this.document.judge(at, value) === undefined })
      }
      this.done = new Set([...(this.done ?? []), ...this.fields])
    }
    this.done = undefined
    const parts = [...this.document.partsOf(at)].filter((part) => /\/properties\/[^/]+$/.test(part))
    const missed = parts.filter((part) => !this.fields.has(part))
    if (missed.length) throw new Error(`${name}: no value shows ${missed.join(', ')}`)
    this.fields.clear()
    return [...probes.values()]
  }

  /** [place, value]: what is at the bounds of the schema, beside and inside the value. */
  *#around(pointer, base, place) {
    pointer = this.document.follow(pointer)
    const schema = this.document.at(pointer)
    for (const kind of ['oneOf', 'anyOf', 'allOf']) {
      for (const index of (schema[kind] ?? []).keys()) yield* this.#around(`${pointer}/${kind}/${index}`, base, place)
    }
    if (schema.type !== undefined) for (const value of OF_EACH_TYPE) yield [place, value]
    const words = schema.enum ?? (schema.const === undefined ? [] : [schema.const])
    for (const word of words) yield* [[place, word], [place, `x${word}`]]
    for (const value of this.#scalars(schema)) yield [place, value]
    if (Array.isArray(base) && schema.items) yield* this.#inArray(pointer, schema, base, place)
    if (typeof base === 'object' && base !== null && !Array.isArray(base)) yield* this.#inObject(pointer, schema, base, place)
  }

  *#scalars(schema) {
    if (schema.pattern !== undefined) yield* ofPattern(schema.pattern)
    if (schema.minLength !== undefined || schema.maxLength !== undefined) yield* ofLength(schema)
    yield* ofNumber(schema)
  }

  *#inArray(pointer, { minItems, maxItems }, base, place) {
    for (const count of [minItems - 1, minItems, maxItems, maxItems + 1]) {
      if (count >= 0) yield [`${place}/#`, Array(count).fill(base[0])]
    }
    for (const [at, item] of this.#around(`${pointer}/items`, base[0], `${place}/0`)) yield [at, [item]]
  }

  *#inObject(pointer, schema, base, place) {
    if (schema.properties === undefined) return
    yield [place, { ...base, 'no field': 1 }]
    for (const [name, value] of Object.entries(base)) {
      const at = `${pointer}/properties/${name}`
      if (schema.properties[name] === undefined) continue
      const { [name]: _, ...others } = base
      yield [`${place}/${name}`, others]
      this.fields.add(at)
      if (this.done?.has(at)) continue
      for (const [inner, each] of this.#around(at, value, `${place}/${name}`)) yield [inner, { ...base, [name]: each }]
    }
  }
}

const { document, bases } = JSON.parse(readFileSync(0, 'utf8'))
const bounds = new Bounds(document)
console.log(JSON.stringify({ root: bounds.document.root, probes: bases.flatMap((each) => bounds.of(each)) }))
