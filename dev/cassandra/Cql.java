import com.datastax.driver.core.Cluster;
import com.datastax.driver.core.ColumnDefinitions;
import com.datastax.driver.core.ConsistencyLevel;
import com.datastax.driver.core.NettyOptions;
import com.datastax.driver.core.PoolingOptions;
import com.datastax.driver.core.QueryOptions;
import com.datastax.driver.core.ResultSet;
import com.datastax.driver.core.Row;
import com.datastax.driver.core.Session;
import com.datastax.driver.core.SocketOptions;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Runs CQL statements and prints their rows, or waits until a cluster of some size answers. For dev/engines only. */
public final class Cql {
  private static final int TIMEOUT_MS = 20_000;

  private Cql() {}

  public static void main(String[] args) throws InterruptedException {
    String[] points = args[0].split(",");
    String user = args[1];
    String password = args[2];
    int status = args[3].equals("--wait")
        ? waitFor(points, user, password, Integer.parseInt(args[4]), Integer.parseInt(args[5]))
        : run(points, user, password, List.of(args).subList(3, args.length));
    // The driver's threads are no reason to stay.
    Runtime.getRuntime().halt(status);
  }

  private static Cluster cluster(String[] points, String user, String password) {
    List<InetSocketAddress> addresses = new ArrayList<>();
    int port = 0;
    for (String point : points) {
      int colon = point.lastIndexOf(':');
      port = Integer.parseInt(point.substring(colon + 1));
      addresses.add(new InetSocketAddress(point.substring(0, colon), port));
    }
    Cluster.Builder builder = Cluster.builder()
        .addContactPointsWithPorts(addresses)
        .withPort(port)
        .withoutMetrics()
        .withPoolingOptions(new PoolingOptions().setCoreConnectionsPerHost(com.datastax.driver.core.HostDistance.LOCAL, 1))
        .withQueryOptions(new QueryOptions().setConsistencyLevel(ConsistencyLevel.QUORUM))
        .withNettyOptions(new NettyOptions() {
          @Override
          public com.datastax.shaded.netty.channel.EventLoopGroup eventLoopGroup(java.util.concurrent.ThreadFactory threads) {
            return new com.datastax.shaded.netty.channel.nio.NioEventLoopGroup(1, threads);
          }

          @Override
          public Class<? extends com.datastax.shaded.netty.channel.socket.SocketChannel> channelClass() {
            return com.datastax.shaded.netty.channel.socket.nio.NioSocketChannel.class;
          }
        })
        .withSocketOptions(new SocketOptions().setConnectTimeoutMillis(TIMEOUT_MS).setReadTimeoutMillis(TIMEOUT_MS));
    return user.isEmpty() ? builder.build() : builder.withCredentials(user, password).build();
  }

  private static int run(String[] points, String user, String password, List<String> statements) {
    try {
      Session session = cluster(points, user, password).connect();
      for (String statement : statements) {
        for (String one : statement.split(";\\s*(?=\\S|$)")) {
          if (!one.isBlank()) {
            print(session.execute(one));
          }
        }
      }
      return 0;
    } catch (RuntimeException e) {
      System.err.println(e.getClass().getSimpleName() + ": " + e.getMessage());
      return 1;
    }
  }

  private static void print(ResultSet rows) {
    List<String> names = new ArrayList<>();
    for (ColumnDefinitions.Definition column : rows.getColumnDefinitions()) {
      names.add(column.getName());
    }
    if (names.isEmpty()) {
      return;
    }
    System.out.println(String.join("\t", names));
    for (Row row : rows) {
      List<String> cells = new ArrayList<>();
      for (int i = 0; i < names.size(); i++) {
        Object value = row.getObject(i);
        cells.add(value instanceof java.nio.ByteBuffer
            ? com.datastax.driver.core.utils.Bytes.toHexString((java.nio.ByteBuffer) value) : String.valueOf(value));
      }
      System.out.println(String.join("\t", cells));
    }
  }

  /** Every node answers a query and sees {@code nodes - 1} others. */
  private static int waitFor(String[] points, String user, String password, int nodes, int seconds)
      throws InterruptedException {
    long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
    int next = 0;
    String trouble = "";
    while (next < points.length) {
      Cluster cluster = cluster(new String[] {points[next]}, user, password);
      try {
        Session session = cluster.connect();
        session.execute("SELECT release_version FROM system.local").one();
        int peers = session.execute("SELECT peer FROM system.peers").all().size();
        if (peers == nodes - 1) {
          next++;
          continue;
        }
        trouble = points[next] + " sees " + peers + " of " + (nodes - 1) + " other nodes";
      } catch (RuntimeException e) {
        trouble = points[next] + ": " + e.getMessage();
      } finally {
        cluster.closeAsync();
      }
      if (System.nanoTime() > until) {
        System.err.println(trouble);
        return 1;
      }
      Thread.sleep(500);
    }
    return 0;
  }
}
