/* What a peer in C offers to the benchmark, see peers/foreign.rs. Keys are three words, values 35, as there. */
#ifndef PEER_H
#define PEER_H

#include <stddef.h>
#include <stdint.h>

#define PEER_KEY_WORDS 3
#define PEER_VALUE_WORDS 35

typedef uint64_t peer_key[PEER_KEY_WORDS];

/* A table for this many entries; NULL if there is none to be had. */
void *peer_new(uint32_t capacity);
/* Ends a table. No thread is entered. */
void peer_free(void *peer);
/* From here on, until peer_leave, this thread may use the table. */
void peer_enter(void *peer);
void peer_leave(void *peer);
/* Looks up n keys, adds up the first words of their values, and announces a quiescent state. */
uint64_t peer_batch(void *peer, const peer_key *keys, size_t n);
/* Announces a quiescent state: for the writer. */
void peer_quiescent(void *peer);
/* 0 if it was done. */
int peer_insert(void *peer, const uint64_t *key, const uint64_t *value);
int peer_remove(void *peer, const uint64_t *key);

#endif
