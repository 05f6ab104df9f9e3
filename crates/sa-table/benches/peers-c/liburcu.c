/* liburcu's lock-free hash table (rculfhash) with QSBR: the flavour of RCU whose readers cost least. */
#define _LGPL_SOURCE
#include <stdlib.h>
#include <string.h>

#include <urcu/urcu-qsbr.h>
#include <urcu/rculfhash.h>

#include "peer.h"

struct entry {
	struct cds_lfht_node node;
	peer_key key;
	uint64_t value[PEER_VALUE_WORDS];
	struct rcu_head head;
};

struct peer {
	struct cds_lfht *table;
};

/* The user chooses the hash: sa-table's, a folded multiplication. */
static unsigned long hash(const uint64_t *key)
{
	const uint64_t seed = UINT64_C(0xe220a8397b1dcdaf);
	unsigned __int128 product = (unsigned __int128)(key[1] ^ seed) * (key[2] ^ seed);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static int match(struct cds_lfht_node *node, const void *key)
{
	const struct entry *entry = caa_container_of(node, struct entry, node);
	const uint64_t *wanted = key;

	return entry->key[0] == wanted[0] && entry->key[1] == wanted[1] && entry->key[2] == wanted[2];
}

static void reclaim(struct rcu_head *head)
{
	free(caa_container_of(head, struct entry, head));
}

void *peer_new(uint32_t capacity)
{
	struct peer *peer = malloc(sizeof(*peer));
	unsigned long buckets = 1;

	while (buckets < capacity)
		buckets <<= 1;
	if (peer)
		peer->table = cds_lfht_new_flavor(buckets, buckets, buckets, 0, &urcu_qsbr_flavor, NULL);
	if (peer && !peer->table) {
		free(peer);
		peer = NULL;
	}
	return peer;
}

void peer_free(void *opaque)
{
	struct peer *peer = opaque;
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	peer_enter(peer);
	cds_lfht_for_each(peer->table, &iter, node) {
		if (!cds_lfht_del(peer->table, node))
			urcu_qsbr_call_rcu(&caa_container_of(node, struct entry, node)->head, reclaim);
	}
	peer_leave(peer);
	urcu_qsbr_barrier();
	cds_lfht_destroy(peer->table, NULL);
	free(peer);
}

void peer_enter(void *peer)
{
	(void)peer;
	urcu_qsbr_register_thread();
}

void peer_leave(void *peer)
{
	(void)peer;
	urcu_qsbr_unregister_thread();
}

void peer_quiescent(void *peer)
{
	(void)peer;
	urcu_qsbr_quiescent_state();
}

uint64_t peer_batch(void *opaque, const peer_key *keys, size_t n)
{
	struct peer *peer = opaque;
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		struct cds_lfht_iter iter;
		struct cds_lfht_node *node;

		cds_lfht_lookup(peer->table, hash(keys[i]), match, keys[i], &iter);
		node = cds_lfht_iter_get_node(&iter);
		if (node)
			sum += caa_container_of(node, struct entry, node)->value[0];
	}
	urcu_qsbr_quiescent_state();
	return sum;
}

int peer_insert(void *opaque, const uint64_t *key, const uint64_t *value)
{
	struct peer *peer = opaque;
	struct entry *entry;
	struct cds_lfht_node *there;

	/* Whole cache lines, as every table here has them. */
	entry = aligned_alloc(64, (sizeof(*entry) + 63) / 64 * 64);
	if (!entry)
		return -1;
	memcpy(entry->key, key, sizeof(entry->key));
	memcpy(entry->value, value, sizeof(entry->value));
	cds_lfht_node_init(&entry->node);
	there = cds_lfht_add_unique(peer->table, hash(key), match, key, &entry->node);
	if (there != &entry->node) {
		free(entry);
		return -1;
	}
	return 0;
}

int peer_remove(void *opaque, const uint64_t *key)
{
	struct peer *peer = opaque;
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	cds_lfht_lookup(peer->table, hash(key), match, key, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (!node || cds_lfht_del(peer->table, node))
		return -1;
	urcu_qsbr_call_rcu(&caa_container_of(node, struct entry, node)->head, reclaim);
	return 0;
}
