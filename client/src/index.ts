export { createClient } from './client.js'
export type { Client, ClientOptions, ConnectionState, Gap, Position, RoomEvent, RoomHandlers, RoomsError } from './types.js'
