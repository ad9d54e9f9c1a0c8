/**
 * The hash of an event's key. The index of keys knows a key by it alone; whether two keys with one hash are the same is
 * decided by the events themselves. Each store has a seed of its own, so that what collides in one does not in another.
 */

/** Hashes are whole numbers from 0 up to, not including, this one, spread evenly. */
export const hashSpan = 2 ** 52

/** The hash of a key in the store with this seed. */
export const keyHash = (seed: number, topicId: number, eventId: string): number => {
  // Two lanes of 32 bits. They multiply by different numbers, so that they do not collide together.
  let left = Math.imul(seed ^ topicId, 0x9e3779b1)
  let right = Math.imul(seed + topicId, 0x85ebca77) ^ eventId.length
  for (let at = 0; at < eventId.length; at++) {
    const unit = eventId.charCodeAt(at)
    left = Math.imul(left ^ unit, 0x27d4eb2f)
    right = Math.imul(right ^ unit, 0x165667b1)
    // A product moves bits only upwards; this brings the upper ones down again.
    left ^= left >>> 15
    right ^= right >>> 13
  }
  left = mixed(left ^ (right >>> 7))
  right = mixed(right ^ left)
  return (left >>> 0) * 2 ** 20 + (right >>> 12)
}

// Every bit of what comes out depends on every bit of what goes in.
const mixed = (bits: number): number => {
  const first = Math.imul(bits ^ (bits >>> 16), 0x7feb352d)
  const second = Math.imul(first ^ (first >>> 15), 0x846ca68b)
  return second ^ (second >>> 16)
}
