import io.lettuce.core.RedisClient;
import io.lettuce.core.SetArgs;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.sync.RedisCommands;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.Transaction;
import redis.clients.jedis.params.ScanParams;
import redis.clients.jedis.params.SetParams;
import redis.clients.jedis.resps.ScanResult;

/** What an application does with Jedis and Lettuce, against the port in the arguments; throws at the first surprise. */
public class Clients {
    static void same(Object got, Object want) {
        if (!String.valueOf(got).equals(String.valueOf(want))) throw new AssertionError("got " + got + ", want " + want);
    }

    static void jedis(int port) {
        try (Jedis client = new Jedis("127.0.0.1", port)) {
            client.flushDB();
            same(client.set("a", "1", SetParams.setParams().ex(100)), "OK");
            same(client.get("a"), "1");
            same(client.mget("a", "none"), "[1, null]");
            client.watch("a");
            Transaction transaction = client.multi();
            transaction.append("a", "2");
            transaction.get("a");
            same(transaction.exec(), List.of(2L, "12"));
            for (int i = 0; i < 500; i++) client.set("many:" + i, "v");
            Set<String> found = new HashSet<>();
            String cursor = ScanParams.SCAN_POINTER_START;
            do {
                ScanResult<String> page = client.scan(cursor, new ScanParams().match("many:*").count(7));
                found.addAll(page.getResult());
                cursor = page.getCursor();
            } while (!cursor.equals(ScanParams.SCAN_POINTER_START));
            same(found.size(), 500);
        }
    }

    static void lettuce(int port) {
        RedisClient client = RedisClient.create("redis://127.0.0.1:" + port);
        try (StatefulRedisConnection<String, String> connection = client.connect()) {
            RedisCommands<String, String> commands = connection.sync();
            same(commands.set("l", "1", SetArgs.Builder.nx().px(100000)), "OK");
            same(commands.getdel("l"), "1");
            commands.multi();
            commands.set("l", "2");
            commands.get("l");
            same(commands.exec().get(1), "2");
            same(commands.keys("many:1?").size(), 10);
        } finally {
            client.shutdown();
        }
    }

    public static void main(String[] arguments) {
        jedis(Integer.parseInt(arguments[0]));
        lettuce(Integer.parseInt(arguments[0]));
        System.exit(0);
    }
}
