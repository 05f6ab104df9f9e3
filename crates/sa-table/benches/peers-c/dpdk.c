/* DPDK's rte_hash, lock-free for readers, with its own QSBR, looked up in bulk. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_rcu_qsbr.h>

#include "peer.h"

#define THREADS 64

struct peer {
	struct rte_hash *table;
	struct rte_rcu_qsbr *qsbr;
	_Atomic uint64_t ids;
};

static _Thread_local unsigned int id;

/* Once per process; without huge pages, devices, files and any processor of its own. */
static int start(void)
{
	static int state;
	char *args[] = { "peers", "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf",
			 "-m", "512", "--lcores", "0", "--log-level", "lib.*:error", NULL };

	if (!state)
		state = rte_eal_init(sizeof(args) / sizeof(args[0]) - 1, args) < 0 ? -1 : 1;
	return state;
}

static void reclaim(void *p, void *value)
{
	(void)p;
	free(value);
}

void *peer_new(uint32_t capacity)
{
	static unsigned int serial;
	char name[RTE_HASH_NAMESIZE];
	/* Room to spare: a full table of its kind refuses keys. The hash is its own choice, CRC32. */
	struct rte_hash_parameters parameters = {
		.name = name,
		.entries = capacity + capacity / 4 + 64,
		.key_len = sizeof(peer_key),
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};
	struct rte_hash_rcu_config reclamation = { .mode = RTE_HASH_QSBR_MODE_DQ, .free_key_data_func = reclaim };
	struct peer *peer;

	if (start() < 0)
		return NULL;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	snprintf(name, sizeof(name), "peer%u", serial++);
	peer->table = rte_hash_create(&parameters);
	peer->qsbr = aligned_alloc(64, (rte_rcu_qsbr_get_memsize(THREADS) + 63) / 64 * 64);
	if (!peer->table || !peer->qsbr || rte_rcu_qsbr_init(peer->qsbr, THREADS))
		goto failed;
	reclamation.v = peer->qsbr;
	if (rte_hash_rcu_qsbr_add(peer->table, &reclamation))
		goto failed;
	return peer;
failed:
	rte_hash_free(peer->table);
	free(peer->qsbr);
	free(peer);
	return NULL;
}

void peer_free(void *opaque)
{
	struct peer *peer = opaque;
	const void *key;
	void *value;
	uint32_t next = 0;

	while (rte_hash_iterate(peer->table, &key, &value, &next) >= 0)
		free(value);
	rte_hash_free(peer->table);
	free(peer->qsbr);
	free(peer);
}

void peer_enter(void *opaque)
{
	struct peer *peer = opaque;
	uint64_t taken = atomic_load(&peer->ids);

	do
		id = __builtin_ctzll(~taken);
	while (!atomic_compare_exchange_weak(&peer->ids, &taken, taken | UINT64_C(1) << id));
	rte_rcu_qsbr_thread_register(peer->qsbr, id);
	rte_rcu_qsbr_thread_online(peer->qsbr, id);
}

void peer_leave(void *opaque)
{
	struct peer *peer = opaque;

	rte_rcu_qsbr_thread_offline(peer->qsbr, id);
	rte_rcu_qsbr_thread_unregister(peer->qsbr, id);
	atomic_fetch_and(&peer->ids, ~(UINT64_C(1) << id));
}

void peer_quiescent(void *opaque)
{
	struct peer *peer = opaque;

	rte_rcu_qsbr_quiescent(peer->qsbr, id);
}

uint64_t peer_batch(void *opaque, const peer_key *keys, size_t n)
{
	struct peer *peer = opaque;
	const void *pointers[RTE_HASH_LOOKUP_BULK_MAX];
	void *values[RTE_HASH_LOOKUP_BULK_MAX];
	uint64_t hits = 0, sum = 0;

	for (size_t i = 0; i < n; i++)
		pointers[i] = keys[i];
	rte_hash_lookup_bulk_data(peer->table, pointers, n, &hits, values);
	for (size_t i = 0; i < n; i++)
		if (hits >> i & 1)
			sum += *(const uint64_t *)values[i];
	rte_rcu_qsbr_quiescent(peer->qsbr, id);
	return sum;
}

int peer_insert(void *opaque, const uint64_t *key, const uint64_t *value)
{
	struct peer *peer = opaque;
	size_t size = PEER_VALUE_WORDS * sizeof(uint64_t);
	uint64_t *copy = aligned_alloc(64, (size + 63) / 64 * 64);

	if (!copy)
		return -1;
	memcpy(copy, value, size);
	if (rte_hash_add_key_data(peer->table, key, copy)) {
		free(copy);
		return -1;
	}
	return 0;
}

int peer_remove(void *opaque, const uint64_t *key)
{
	struct peer *peer = opaque;

	return rte_hash_del_key(peer->table, key) < 0 ? -1 : 0;
}
