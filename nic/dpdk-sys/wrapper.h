/* What of DPDK is bound, and the little that only C can see: macros, thread-locals, and offsets that
 * differ between releases. bindgen turns the static functions into real ones. */

#include <stddef.h>
#include <stdint.h>

#include <rte_config.h>
#include <rte_alarm.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

/* Where the fields of an rte_mbuf are, in bytes. Its unions and paddings have no names that last. */
enum mstream_mbuf_offset {
	MSTREAM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	MSTREAM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	MSTREAM_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	MSTREAM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	MSTREAM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	MSTREAM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	MSTREAM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
};

enum mstream_limit {
	MSTREAM_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM,
	MSTREAM_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE,
	MSTREAM_SP_SC_RING = RING_F_SP_ENQ | RING_F_SC_DEQ,
};

/* The calling thread's rte_errno: a macro over a thread-local. */
static inline int mstream_errno(void)
{
	return rte_errno;
}

/* 1 or 0: the calling thread has, or lacks, the lcore id that per-thread pool caches go by. */
static inline int mstream_has_lcore(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

/* Objects in the calling thread's cache of a pool; 0 if it has none. */
static inline uint32_t mstream_cached(struct rte_mempool *pool)
{
	struct rte_mempool_cache *cache = rte_mempool_default_cache(pool, rte_lcore_id());

	return cache == NULL ? 0 : cache->len;
}

/* A pool of packet buffers as rte_pktmbuf_pool_create makes it, but without gaps at the ends of pages: for
 * devices that no DMA is done by. (net_af_xdp takes the number of buffers times their size for the memory's
 * length, and ordinary pages have room for one buffer each.) NULL with rte_errno set if it cannot be made. */
static inline struct rte_mempool *mstream_packed_pool(const char *name, uint32_t buffers,
		uint32_t cache, uint16_t room, int node)
{
	struct rte_pktmbuf_pool_private about = { .mbuf_data_room_size = room };
	struct rte_mempool *pool = rte_mempool_create_empty(name, buffers,
		sizeof(struct rte_mbuf) + room, cache, sizeof(about), node,
		RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	int failed;

	if (pool == NULL)
		return NULL;
	failed = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (failed == 0) {
		rte_pktmbuf_pool_init(pool, &about);
		failed = rte_mempool_populate_default(pool);
	}
	if (failed < 0) {
		rte_mempool_free(pool);
		rte_errno = -failed;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

/* Pieces of memory that a pool's objects lie in. */
static inline uint32_t mstream_pieces(struct rte_mempool *pool)
{
	return pool->nb_mem_chunks;
}

/* 1 or 0: the port's link is up, or down. The structure has bit-fields. */
static inline int mstream_link_up(uint16_t port)
{
	struct rte_eth_link link;

	if (rte_eth_link_get_nowait(port, &link) != 0)
		return 0;
	return link.link_status == RTE_ETH_LINK_UP;
}

/* Configures a port with one queue each way and all else by default. */
static inline int mstream_configure(uint16_t port)
{
	struct rte_eth_conf conf = {0};

	return rte_eth_dev_configure(port, 1, 1, &conf);
}

/* Takes one pointer out of a ring with a single consumer, or NULL when it is empty. */
static inline void *mstream_ring_take(struct rte_ring *ring)
{
	void *object;

	return rte_ring_sc_dequeue(ring, &object) == 0 ? object : NULL;
}
