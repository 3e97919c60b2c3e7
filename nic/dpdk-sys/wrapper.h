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
	MSTREAM_MBUF_FLAGS = offsetof(struct rte_mbuf, ol_flags),
};

/* What a device found out of the checksums of a received packet: the bits of both in an rte_mbuf's flags, and
 * their values. */
enum mstream_rx_checksum {
	MSTREAM_RX_IP_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK,
	MSTREAM_RX_IP_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD,
	MSTREAM_RX_IP_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD,
	MSTREAM_RX_L4_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK,
	MSTREAM_RX_L4_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD,
	MSTREAM_RX_L4_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD,
};

/* Bits that say which checksums a device sees to. */
enum mstream_offload {
	MSTREAM_VERIFIES = 1,
	MSTREAM_FILLS_IPV4 = 2,
	MSTREAM_FILLS_UDP = 4,
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

/* What of the wanted MSTREAM_VERIFIES, ... a port can. */
static inline uint32_t mstream_offloads(uint16_t port, uint32_t wanted)
{
	const uint64_t verifies = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	struct rte_eth_dev_info info;
	uint32_t can = 0;

	if (rte_eth_dev_info_get(port, &info) != 0)
		return 0;
	if ((info.rx_offload_capa & verifies) == verifies)
		can |= MSTREAM_VERIFIES;
	if (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)
		can |= MSTREAM_FILLS_IPV4;
	if (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
		can |= MSTREAM_FILLS_UDP;
	return can & wanted;
}

/* Configures a port with one queue each way, with these offloads and all else by default. */
static inline int mstream_configure(uint16_t port, uint32_t offloads)
{
	struct rte_eth_conf conf = {0};

	if (offloads & MSTREAM_VERIFIES)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	if (offloads & MSTREAM_FILLS_IPV4)
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
	if (offloads & MSTREAM_FILLS_UDP)
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	return rte_eth_dev_configure(port, 1, 1, &conf);
}

/* Asks for one of MSTREAM_FILLS_* of a packet that is to be sent; UDP is over IPv6. */
static inline void mstream_ask(struct rte_mbuf *mbuf, uint32_t what, uint8_t l2_bytes, uint8_t l3_bytes)
{
	mbuf->l2_len = l2_bytes;
	mbuf->l3_len = l3_bytes;
	if (what == MSTREAM_FILLS_IPV4)
		mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
	else
		mbuf->ol_flags |= RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM;
}

/* Takes one pointer out of a ring with a single consumer, or NULL when it is empty. */
static inline void *mstream_ring_take(struct rte_ring *ring)
{
	void *object;

	return rte_ring_sc_dequeue(ring, &object) == 0 ? object : NULL;
}
